"""Rows of attention whose mean is the importance of visual tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from tokenlens.probing.attention_weights import attention_weights
from tokenlens.pruning.attention import AttentionInputs
from tokenlens.pruning.tokens import Counts, Slots, arrange

_LARGEST_BLOCK = 2**25
"""Attention weights held at once while many rows are read; more are read in turns."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows to read, as slots.

    Attributes:
        order: int64 [batch, rows].
        valid: bool [batch, rows], None where all are valid.
        counts: how many are valid per sample.
        final: whether every sample has one row, that of its last token.
    """

    order: Tensor
    valid: Tensor | None
    counts: Counts
    final: bool = False

    def to(self, device: torch.device) -> "Rows":
        """The same on another device."""
        if self.order.device == device:
            return self
        valid = None if self.valid is None else self.valid.to(device)
        return replace(self, order=self.order.to(device), valid=valid)

    def averaged(self, sums: Tensor) -> Tensor:
        """The mean over the rows of a sample, of their sum [batch, width]."""
        if self.valid is None:
            rows = self.order.shape[1]
            return sums / rows if rows > 1 else sums
        return sums / self.valid.sum(1, keepdim=True).clamp(min=1)


@dataclass(frozen=True, eq=False)
class ChosenRows:
    """The rows that a scorer reads, by position in the padded input.

    What a stage would have to ask the device for is asked once, before the first layer.

    Attributes:
        chosen: bool [batch, length]; not read where `last` says which they are.
        counts: how many are chosen per sample.
        everything: whether they are all tokens that are no padding.
        visual: whether visual tokens are among them.
        final: whether every sample has one row, that of its last token.
        last: where all rows follow the last visual token, so that no stage moves them from the
            end: their places counted from the end (int64 [batch, rows]), and which of those are
            valid (bool [batch, rows], None where all are).
    """

    chosen: Tensor
    counts: Counts
    everything: bool
    visual: bool
    final: bool
    last: tuple[Tensor, Tensor | None] | None

    @classmethod
    def of(cls, chosen: Tensor, visual: Tensor, attended: Tensor) -> "ChosenRows":
        """Of the rows of a scorer; all tensors are bool [batch, length], of the padded input."""
        rows, seen, real = torch.stack([chosen, visual, attended]).cpu().numpy()
        counts = tuple(rows.sum(1).tolist())
        early = np.logical_or.accumulate(seen[:, ::-1], axis=1)[:, ::-1]  # up to the last visual
        last = None
        # rows that stages move, or padding behind the picture that they remove
        if not np.where(early, rows, ~real).any():
            length, most = rows.shape[1], max(counts)
            order = np.where(rows, np.arange(length), -1).argsort(1, kind="stable")
            order = order[:, length - most :]
            valid = None
            if min(counts) < most:
                valid = torch.from_numpy(np.take_along_axis(rows, order, 1)).to(chosen.device)
            last = torch.from_numpy(order - length).to(chosen.device), valid
        return cls(
            chosen=chosen,
            counts=counts,
            everything=bool((rows >= real).all()),
            visual=bool((rows & seen).any()),
            final=set(counts) == {1} and bool(rows[:, -1].all()),
            last=last,
        )

    @classmethod
    def of_last(cls, attended: Tensor) -> "ChosenRows":
        """The row of every last token, a text token; `attended` is bool [batch, length]."""
        end = torch.full((len(attended), 1), -1, device=attended.device)
        return cls(
            chosen=attended,
            counts=(1,) * len(attended),
            everything=False,
            visual=False,
            final=True,
            last=(end, None),
        )

    def among(self, slots: Slots) -> Rows:
        """The rows as places among `slots`."""
        device = slots.index.device
        if self.last is not None:
            from_end, valid = self.last
            order = from_end.to(device) + slots.width
            return Rows(order, None if valid is None else valid.to(device), self.counts, self.final)
        rows = self.chosen.to(device).gather(1, slots.index) & slots.present  # [batch, width]
        counts = self.counts
        if self.visual:
            counts = slots.lengths if self.everything else tuple(rows.sum(1).tolist())
        order = arrange(slots.index, rows, max(counts))  # [batch, rows]
        return Rows(order, rows.gather(1, order), counts)


def importance(
    inputs: AttentionInputs,
    rows: Rows,
    candidates: Tensor,
    visible: Callable[[Tensor], Tensor | None],
    *,
    heads: Sequence[int] | int | None = None,
    softmax: str = "all",
    decay: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Attention that each slot receives, mean over heads and rows.

    Args:
        inputs: queries and keys of every slot at the scoring layer.
        rows: the rows to average.
        candidates: bool [batch, width], the visual tokens.
        visible: a function from the slots [batch, n] of some rows to the keys they see: bool or
            additive floats [batch, heads or 1, n, width]; None where they see all.
        heads: heads to average, counted from 0; or the number of heads, chosen as those that give
            the candidates the most attention, ties to the lower head; None for all.
        softmax: over "all" keys of a row, or over the "visual" ones.
        decay: a function from the slots [batch, n] of some rows to the divisors of the weights:
            floats [batch, n, width].

    Returns:
        [batch, width] in float32, float64 for a float64 model.
    """
    dtype = accumulation_dtype(inputs.query)
    key = inputs.key.to(dtype)
    batch, n_heads, _, size = inputs.query.shape
    width = key.shape[2]
    apart = n_heads if isinstance(heads, int) else 1
    block = max(1, _LARGEST_BLOCK // max(1, batch * n_heads * width))

    def received(start: int, order: Tensor) -> Tensor:
        """The sum of the rows `order`, the first of which is row `start`."""
        # [batch, heads, rows, size]
        if rows.final:
            query = inputs.query[:, :, -1:]
        else:
            query = inputs.query.gather(2, order[:, None, :, None].expand(-1, n_heads, -1, size))
        seen = visible(order)  # [batch, heads or 1, rows, width]
        if softmax == "visual":
            seen = _only(seen, candidates)
        # [batch, heads, rows, width]
        weights = attention_weights(
            query.to(dtype), key, seen, scaling=inputs.scaling, softcap=inputs.softcap
        )
        if decay is not None:
            weights = weights / decay(order).to(dtype)[:, None]
        if isinstance(heads, Sequence):
            weights = weights[:, list(heads)]
        if apart == 1:
            weights = weights.mean(1, keepdim=True)  # [batch, apart, rows, width]
        if rows.valid is not None:
            weights = weights * rows.valid[:, None, start : start + block, None]
        return weights.sum(2)  # [batch, apart, width]

    starts = range(0, max(1, rows.order.shape[1]), block)
    total = reduce(torch.add, map(received, starts, rows.order.split(block, 1)))
    if isinstance(heads, int):
        total = _strongest(total, candidates, heads).mean(1, keepdim=True)
    return rows.averaged(total.squeeze(1))  # [batch, width]


def accumulation_dtype(tensor: Tensor) -> torch.dtype:
    """float64 for float64 tensors, float32 for all others."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _strongest(total: Tensor, candidates: Tensor, count: int) -> Tensor:
    """The `count` heads of `total` [batch, heads, width] with the most attention to candidates."""
    given = (total * candidates[:, None]).sum(2)  # [batch, heads]
    heads = given.argsort(dim=1, descending=True, stable=True)[:, :count]  # [batch, count]
    return total.gather(1, heads[:, :, None].expand(-1, -1, total.shape[2]))


def _only(seen: Tensor | None, candidates: Tensor) -> Tensor:
    """`seen` [batch, heads or 1, rows, width] with all keys hidden that are not candidates."""
    if seen is None:
        return candidates[:, None, None, :]  # [batch, 1, 1, width]
    hidden = ~candidates[:, None, None, :]  # [batch, 1, 1, width]
    return seen.masked_fill(hidden, 0 if seen.dtype == torch.bool else torch.finfo(seen.dtype).min)
