"""Rotary positions of the tokens that are left: their original ones, or numbered anew."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from tokenlens.errors import PruningError
from tokenlens.pruning.tokens import take_rows

Embeddings = Any
"""A layer's `position_embeddings`: (cos, sin) [batch or 1, length, size], one tensor, or None."""


_ELEMENTWISE = ("default", "linear", "yarn", "llama3", "proportional")
"""Rope types of transformers in which a position alone decides about its embedding."""

Numbering = Callable[[int], Tensor]
"""Of a number of new tokens their rotary numbers: int64 [batch, count]."""


class _Call(NamedTuple):
    """A call of a rotary embedding, and the embeddings of further numberings."""

    output: Embeddings
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    further: Sequence[Embeddings]


@dataclass
class Rotary:
    """The calls of a decoder's rotary embedding, recorded to repeat them with other positions.

    A model may call it once for each type of layer; a layer's embeddings tell which call made them.

    Attributes:
        module: the rotary embedding; None where the decoder has none.
        numberings: those whose embeddings every call is to make too.
    """

    module: nn.Module | None
    numberings: Sequence[Numbering] = ()
    _calls: list[_Call] = field(default_factory=list)

    def forget(self) -> None:
        """Forget all calls, and what they are to make too."""
        self.numberings = ()
        self._calls.clear()

    def widen(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """A forward pre-hook of the rotary embedding, which may make all numberings in one call."""
        if not self.numberings or not self._elementwise:
            return None
        return _with_positions(args, kwargs, lambda own: _joined(own, self.numberings))

    def record(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Embeddings
    ) -> Embeddings:
        """A forward hook of the rotary embedding; returns those of the model's own positions."""
        further: Sequence[Embeddings] = ()
        if self.numberings and self._elementwise:
            count = 1 + len(self.numberings)
            output, *further = (_part(output, place, count) for place in range(count))
        elif self.numberings:
            further = [
                self._repeat(args, kwargs, partial(_numbered, numbering=numbering))
                for numbering in self.numberings
            ]
        self._calls.append(_Call(output, args, kwargs, further))
        return output

    @cached_property
    def _elementwise(self) -> bool:
        """Whether the embedding of a position depends on nothing else.

        In dynamic and LongRoPE the largest position decides about all, and may in unknown modules.
        """
        types = getattr(self.module, "rope_type", None)
        names = tuple(types.values()) if isinstance(types, Mapping) else (types,)
        return all(isinstance(name, str) and name in _ELEMENTWISE for name in names)

    def further(self, embeddings: Embeddings, place: int) -> Embeddings:
        """Those of the numbering at `place`, made with `embeddings`."""
        return self._call_of(embeddings).further[place]

    def renumber(self, embeddings: Embeddings, numbers: Tensor) -> Embeddings:
        """The embeddings of `numbers` (int64 [batch, width]) made as `embeddings` were."""
        call = self._call_of(embeddings)
        return self._repeat(call.args, call.kwargs, lambda own: _like(own, numbers))

    def _call_of(self, embeddings: Embeddings) -> _Call:
        for call in self._calls:
            if call.output is embeddings and self.module is not None:
                return call
        raise PruningError(
            "positions 'renumber' needs a decoder whose `rotary_emb` makes the layers' position "
            "embeddings, this one does otherwise; use positions 'keep'"
        )

    def _repeat(self, args: Any, kwargs: Any, change: Callable[[Tensor], Tensor]) -> Embeddings:
        """A call with other positions, past all hooks."""
        args, kwargs = _with_positions(args, kwargs, change)
        return cast(nn.Module, self.module).forward(*args, **kwargs)


def gather(embeddings: Embeddings, index: Tensor) -> Embeddings:
    """The embeddings that belong to positions `index` (int64 [batch, width]) of the input."""
    return _each(embeddings, lambda tensor: _gather_rows(tensor, index.to(tensor.device)))


LEAST_DECAY = 0.1
"""What `decay` never falls below."""


def decay(embeddings: Embeddings, size: int) -> Callable[[Tensor], Tensor]:
    """Attention decay with distance by the rotary embedding: products of queries and keys of ones.

    For slots [batch, rows] it gives floats [batch, rows, width]: the cosines of the angles between
    the row and each token, mean over the `size` numbers of a head. SparseVLM+ divides attention by
    it. Deviations: it is 1 at distance 0 (in SparseVLM's code the square root of the size, which
    gives the same order of tokens), and it is at least `LEAST_DECAY`: at distances beyond the
    length of LLaVA-1.5's picture the published code divides by 0 and by negative numbers.

    Args:
        embeddings: (cos, sin) of every slot, [batch or 1, width, rotated].
        size: numbers in a head; those that are not rotated count as an angle of 0.
    """
    if not isinstance(embeddings, tuple) or len(embeddings) != 2:
        raise PruningError(
            "scorer.decay 'divide' needs layers that are given (cos, sin) as "
            "`position_embeddings`, this model's are not; leave scorer.decay out"
        )
    turned = torch.cat(embeddings, dim=-1)  # [batch or 1, width, 2 * rotated]
    still = size - embeddings[0].shape[-1]

    def curve(order: Tensor) -> Tensor:
        rows = _gather_rows(turned, order)  # [batch, rows, 2 * rotated]
        alike = rows @ turned.transpose(1, 2) + still  # [batch, rows, width]
        decays: Tensor = (alike / (rows.square().sum(-1, keepdim=True) + still)).clamp(
            min=LEAST_DECAY
        )
        return decays

    return curve


def without_rotation(embeddings: Embeddings) -> Embeddings:
    """Embeddings of the same shape that leave queries and keys unchanged."""
    if embeddings is None:
        return None
    if isinstance(embeddings, Tensor):
        return torch.ones_like(embeddings)
    cos, sin = embeddings
    return torch.ones_like(cos), torch.zeros_like(sin)


def gather_ids(position_ids: Tensor | None, index: Tensor) -> Tensor | None:
    """The ids at `index` of `position_ids` [..., batch or 1, length]."""
    if position_ids is None:
        return None
    index = index.to(position_ids.device)
    shape = (*position_ids.shape[:-2], *index.shape)
    wide = position_ids.expand(*position_ids.shape[:-2], len(index), -1)  # [..., batch, length]
    return wide.gather(-1, index.expand(shape))  # [..., batch, width]


def _gather_rows(tensor: Tensor, index: Tensor) -> Tensor:
    # [batch, length, size] to [batch, width, size]
    if len(tensor) != len(index):
        tensor = tensor.expand(len(index), -1, -1)
    return take_rows(tensor, index)


def _each(embeddings: Embeddings, change: Callable[[Tensor], Tensor]) -> Embeddings:
    if embeddings is None:
        return None
    if isinstance(embeddings, Tensor):
        return change(embeddings)
    return tuple(map(change, embeddings))


def _with_positions(
    args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Tensor], Tensor]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a rotary embedding with other positions, which are whole numbers."""

    def changed(value: Any) -> Any:
        if isinstance(value, Tensor) and not value.is_floating_point() and value.ndim >= 2:
            return change(value)
        return value

    return tuple(map(changed, args)), {name: changed(value) for name, value in kwargs.items()}


def _like(own: Tensor, numbers: Tensor) -> Tensor:
    """`numbers` [batch, count] in the place of positions `own` [..., batch or 1, length]."""
    return numbers.to(own.device).expand(*own.shape[:-2], *numbers.shape)


def _numbered(own: Tensor, numbering: Numbering) -> Tensor:
    """A numbering of as many tokens, in the place of positions `own`."""
    return _like(own, numbering(own.shape[-1]))


def _joined(own: Tensor, numberings: Sequence[Numbering]) -> Tensor:
    """`own` [..., batch or 1, count] and each numbering of as many: [..., batch, all of them]."""
    further = [_numbered(own, numbering) for numbering in numberings]
    return torch.cat([own.expand_as(further[0]), *further], dim=-1)


def _part(embeddings: Embeddings, place: int, count: int) -> Embeddings:
    """The part `place` of embeddings [..., length, size] that are of `count` parts."""

    def part(tensor: Tensor) -> Tensor:
        length = tensor.shape[-2] // count
        return tensor.narrow(-2, place * length, length)

    return _each(embeddings, part)
