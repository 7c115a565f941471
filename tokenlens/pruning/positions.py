"""Rotary positions of the tokens that are left: those they were born with, or numbered anew."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tokenlens.errors import PruningError

Embeddings = Any
"""A layer's `position_embeddings`: (cos, sin) [batch or 1, length, size], one tensor, or None."""


@dataclass
class Rotary:
    """The calls a decoder made of its rotary embedding, to make them again for other numbers.

    A model may call it once for each type of layer; a layer's embeddings say which call made them.
    """

    module: nn.Module | None
    calls: list[tuple[Embeddings, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)

    def record(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Embeddings
    ) -> None:
        """A forward hook of the rotary embedding."""
        self.calls.append((output, args, kwargs))

    def renumber(self, embeddings: Embeddings, numbers: Tensor) -> Embeddings:
        """The embeddings of `numbers` (int64 [batch, width]) made as `embeddings` were."""
        for output, args, kwargs in self.calls:
            if output is embeddings and self.module is not None:
                swap = _swap_positions(numbers)
                return self.module.forward(
                    *map(swap, args), **{name: swap(value) for name, value in kwargs.items()}
                )
        raise PruningError(
            "positions 'renumber' needs a decoder whose `rotary_emb` makes the layers' position "
            "embeddings, this one does otherwise; use positions 'keep'"
        )


def gather(embeddings: Embeddings, index: Tensor) -> Embeddings:
    """The embeddings that belong to positions `index` (int64 [batch, width]) of the input."""
    return _each(embeddings, lambda tensor: _gather_rows(tensor, index.to(tensor.device)))


LEAST_DECAY = 0.1
"""What `decay` never falls below."""


def decay(embeddings: Embeddings, size: int) -> Callable[[Tensor], Tensor]:
    """What the rotary embedding makes of distance: the product of a query and a key of ones.

    For slots [batch, rows] it gives floats [batch, rows, width]: the cosines of the angles between
    the row and each token, mean over the `size` numbers of a head, which SparseVLM+ divides
    attention by. Deviations: it is 1 at distance 0 (as coded the square root of the size, which
    orders tokens alike), and where it falls below `LEAST_DECAY`, further than LLaVA-1.5's picture
    reaches, it is that, since the code divides by 0 and by negative numbers there.

    Args:
        embeddings: (cos, sin) of every slot, [batch or 1, width, rotated].
        size: numbers in a head; those that are not rotated count as an angle of 0.
    """
    if not isinstance(embeddings, tuple) or len(embeddings) != 2:
        raise PruningError(
            "scorer.decay 'divide' needs layers that are given (cos, sin) as "
            "`position_embeddings`, this model's are not; leave scorer.decay out"
        )
    turned = torch.cat(embeddings, dim=-1)
    still = size - embeddings[0].shape[-1]

    def curve(order: Tensor) -> Tensor:
        rows = _gather_rows(turned, order)
        alike = rows @ turned.transpose(1, 2) + still
        decays: Tensor = (alike / (rows.square().sum(-1, keepdim=True) + still)).clamp(
            min=LEAST_DECAY
        )
        return decays

    return curve


def without_rotation(embeddings: Embeddings) -> Embeddings:
    """Embeddings that leave queries and keys as they are."""
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
    wide = position_ids.expand(*position_ids.shape[:-2], len(index), -1)
    return wide.gather(-1, index.expand(shape))


def _gather_rows(tensor: Tensor, index: Tensor) -> Tensor:
    if len(tensor) == 1 and len(index) == 1:
        return tensor[:, index[0]]
    wide = tensor.expand(len(index), -1, -1)
    return wide.gather(1, index[:, :, None].expand(-1, -1, tensor.shape[-1]))


def _each(embeddings: Embeddings, change: Callable[[Tensor], Tensor]) -> Embeddings:
    if embeddings is None:
        return None
    if isinstance(embeddings, Tensor):
        return change(embeddings)
    return tuple(map(change, embeddings))


def _swap_positions(numbers: Tensor) -> Callable[[Any], Any]:
    def swap(value: Any) -> Any:
        if isinstance(value, Tensor) and not value.is_floating_point() and value.ndim >= 2:
            return numbers.to(value.device).expand(*value.shape[:-2], *numbers.shape)
        return value

    return swap
