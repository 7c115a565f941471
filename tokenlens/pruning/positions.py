"""Rotary positions of the tokens that are left: their original ones, or numbered anew."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tokenlens.errors import PruningError
from tokenlens.pruning.tokens import take_rows

Embeddings = Any
"""A layer's `position_embeddings`: (cos, sin) [batch or 1, length, size], one tensor, or None."""


@dataclass
class Rotary:
    """The calls of a decoder's rotary embedding, recorded to repeat them with other positions.

    A model may call it once for each type of layer; a layer's embeddings tell which call made them.
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


def _swap_positions(numbers: Tensor) -> Callable[[Any], Any]:
    def swap(value: Any) -> Any:
        if isinstance(value, Tensor) and not value.is_floating_point() and value.ndim >= 2:
            return numbers.to(value.device).expand(*value.shape[:-2], *numbers.shape)
        return value

    return swap
