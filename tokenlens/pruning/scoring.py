"""Scoring of visual tokens: the types of scorers, and importance from attention rows.

The scorers themselves are in `scorers`, one function in one file each. Some choose the tokens whose
attention rows are averaged; the others give scores without reading the decoder's attention and can
therefore score before the first layer (layer 0).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenlens.probing.attention_weights import attention_weights
from tokenlens.pruning.attention import AttentionInputs
from tokenlens.pruning.tokens import Counts, Slots, Tokens, arrange
from tokenlens.pruning.tower_reading import TowerReading
from tokenlens.schedule import MassKeep, Scorer
from tokenlens.schedule.token_counts import within_limits

Floats = NDArray[np.float64]

_LARGEST_BLOCK = 2**25
"""Attention weights held at once while many rows are read; more are read in turns."""


@dataclass(frozen=True)
class Prompt:
    """The padded input, as scorers receive it. Tensors are [batch, length].

    Attributes:
        ids: int64, token ids.
        visual: bool, attended visual tokens.
        attended: bool, False for padding.
        end: length of the padded prompt; later tokens (candidates of assisted decoding) are not
            part of it.
        recorded: per sample, importance [layers, n_visual] of the unpruned model; None where it
            was not recorded.
        tower_reading: importance and key of each token in the vision tower; None where no scorer or
            disposal needs it.
    """

    ids: Tensor
    visual: Tensor
    attended: Tensor
    end: int
    recorded: Sequence[Tensor] | None = None
    tower_reading: TowerReading | None = None

    def within(self, rows: Tensor) -> Tensor:
        """`rows` without padding and without tokens after the prompt: bool [batch, length]."""
        rows = rows & self.attended
        rows[:, self.end :] = False
        return rows

    def text_after(self) -> Tensor:
        """The text tokens after the last visual token: bool [batch, length]."""
        following = self.visual.flip(1).cumsum(1).flip(1) == 0
        return self.within(following & ~self.visual)


class StageContext(NamedTuple):
    """The stage's number, counted from 0, and the tokens it selects of each sample.

    Where it keeps by mass, `keeping` is the upper limit.
    """

    stage: int
    keeping: Counts


@dataclass(frozen=True)
class Scoring:
    """Base class of scorers; a scorer is a `RowScoring` or a `DirectScoring`.

    Attributes:
        summary: one line for the user.
        macs: a function from the number of candidates, of text tokens after the last visual token,
            and of numbers in a hidden state, to the multiply-accumulates beside reading attention,
            float64 [samples]; None where there are none.
        tower: whether it needs the reading of the vision tower (`Prompt.tower_reading`).
        sums: whether importances can be summed, so that a stage can keep by mass; False where they
            only give an order of the tokens.
    """

    summary: str = field(default="", kw_only=True)
    macs: Callable[[Floats, Floats, int], Floats] | None = field(default=None, kw_only=True)
    tower: bool = field(default=False, kw_only=True)
    sums: bool = field(default=True, kw_only=True)


@dataclass(frozen=True)
class RowScoring(Scoring):
    """Importance as the mean of some tokens' attention rows, at the stage's layer.

    Attributes:
        rows: a function from the prompt and the embeddings [batch, length, hidden] that enter
            layer 1 to the tokens whose rows are read: bool [batch, length].
    """

    rows: Callable[[Prompt, Tensor], Tensor]


@dataclass(frozen=True)
class DirectScoring(Scoring):
    """Importance without reading the decoder's attention, so also at layer 0.

    Attributes:
        scores: a function from the prompt, the current tokens with their hidden states, the stage's
            context and its scorer to the importance of every candidate (`tokens.slots.visual`):
            floats [batch, width]; values of other tokens are ignored.
    """

    scores: Callable[[Prompt, Tokens, StageContext, Scorer], Tensor]


@dataclass(frozen=True)
class Rows:
    """The rows to read, as slots: `order` int64 and `valid` bool, both [batch, rows].

    `counts` is how many are valid per sample.
    """

    order: Tensor
    valid: Tensor
    counts: Counts


@dataclass(frozen=True, eq=False)
class ChosenRows:
    """The rows that a scorer reads, by position in the padded input.

    What a stage would have to ask the device for is asked once, before the first layer.

    Attributes:
        chosen: bool [batch, length].
        counts: how many are chosen per sample.
        everything: whether they are all tokens that are no padding.
        visual: whether visual tokens are among them.
        last: where all rows follow the last visual token, so that no stage moves them from the
            end: their places counted from the end (int64 [batch, rows]), and which of those are
            valid (bool [batch, rows]).
    """

    chosen: Tensor
    counts: Counts
    everything: bool
    visual: bool
    last: tuple[Tensor, Tensor] | None

    @classmethod
    def of(cls, chosen: Tensor, visual: Tensor, attended: Tensor) -> "ChosenRows":
        """Of the rows of a scorer; all tensors are bool [batch, length], of the padded input."""
        length = chosen.shape[1]
        early = visual.flip(1).cumsum(1).flip(1) > 0  # up to the last visual token
        moved = torch.where(early, chosen, ~attended)  # or padding behind it, which stages remove
        told = [chosen, moved, chosen & visual, attended & ~chosen]
        counts, *others = torch.stack(told).sum(2).tolist()  # [4, batch]
        moving, seen, left_out = map(any, others)
        last = None
        if not moving:
            order = arrange(chosen.long().cumsum(1), chosen, max(counts))  # [batch, rows]
            last = order - length, chosen.gather(1, order)
        return cls(chosen, tuple(counts), not left_out, seen, last)

    def among(self, slots: Slots) -> Rows:
        """The rows as places among `slots`."""
        device = slots.index.device
        if self.last is not None:
            from_end, valid = (tensor.to(device) for tensor in self.last)
            return Rows(from_end + slots.width, valid, self.counts)
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
    visible: Callable[[Tensor], Tensor],
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
            additive floats [batch, heads or 1, n, width].
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
    total = torch.zeros(batch, apart, width, dtype=dtype, device=key.device)
    block = max(1, _LARGEST_BLOCK // max(1, batch * n_heads * width))
    for order, valid in zip(rows.order.split(block, 1), rows.valid.split(block, 1), strict=True):
        # [batch, heads, rows, size]
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
        # [batch, apart, heads / apart, rows, width], mean over heads: [batch, apart, rows, width]
        weights = weights.unflatten(1, (apart, -1)).mean(2)
        total += (weights * valid[:, None, :, None]).sum(2)  # [batch, apart, width]
    if isinstance(heads, int):
        total = _strongest(total, candidates, heads)  # [batch, strongest heads, width]
    return total.mean(1) / rows.valid.sum(1, keepdim=True).clamp(min=1)  # [batch, width]


def accumulation_dtype(tensor: Tensor) -> torch.dtype:
    """float64 for float64 tensors, float32 for all others."""
    return torch.promote_types(tensor.dtype, torch.float32)


def select(
    scores: Tensor, candidates: Tensor, counts: Sequence[int], first: Tensor | None = None
) -> Tensor:
    """The `counts[i]` candidates of each sample with the highest scores, ties to the lower slot.

    Candidates in `first` are selected before all others. All tensors are [batch, width].

    >>> scores = torch.tensor([[0.1, 0.3, 0.3, 0.9]])
    >>> select(scores, torch.tensor([[True, True, True, False]]), [1])
    tensor([[False,  True, False, False]])
    """
    # [batch, width]: slots by falling score
    order = scores.masked_fill(~candidates, -torch.inf).argsort(dim=1, descending=True, stable=True)
    if first is not None:
        early = (first & candidates).gather(1, order).int()
        order = order.gather(1, early.argsort(dim=1, descending=True, stable=True))
    ranks = torch.empty_like(order)  # [batch, width]: the rank of each slot, the inverse of `order`
    ranks.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    limits = torch.tensor(counts, device=order.device)[:, None]  # [batch, 1]
    return candidates & (ranks < limits)


def counts_of_mass(scores: Tensor, candidates: Tensor, keep: MassKeep, originals: Counts) -> Counts:
    """The number of candidates of each sample that hold the share `keep.mass` of their importance.

    It is the fewest, taken from the highest importance down (a negative one counts as 0), within
    the limits of `keep`.

    Args:
        scores: floats [batch, width].
        candidates: bool [batch, width].
        keep: the share and its limits.
        originals: visual tokens of each sample before any pruning.

    >>> scores = torch.tensor([[0.1, 0.3, 0.2, 0.4]])
    >>> counts_of_mass(scores, scores > 0, MassKeep(mass=0.65), (4,))
    (2,)
    """
    known = scores.double().clamp(min=0).masked_fill(~candidates, 0)
    sums = known.sort(dim=1, descending=True).values.cumsum(1)  # [batch, width]
    fewer = (sums < keep.mass * sums[:, -1:]).sum(1)  # [batch]
    there = candidates.sum(1)
    return tuple(
        min(within_limits(keep, count + 1, original), candidates_of)
        for count, original, candidates_of in zip(
            fewer.tolist(), originals, there.tolist(), strict=True
        )
    )


def strongest_heads(heads: int | float, n_heads: int) -> int:
    """Number of heads for a count, or for a ratio of `n_heads`; a ratio gives at least one.

    >>> strongest_heads(14, 32), strongest_heads(14 / 32, 4), strongest_heads(0.01, 4)
    (14, 2, 1)
    """
    if isinstance(heads, int):
        return heads
    return max(1, math.floor(heads * n_heads + 0.5))


def _strongest(total: Tensor, candidates: Tensor, count: int) -> Tensor:
    """The `count` heads of `total` [batch, heads, width] with the most attention to candidates."""
    given = (total * candidates[:, None]).sum(2)  # [batch, heads]
    heads = given.argsort(dim=1, descending=True, stable=True)[:, :count]  # [batch, count]
    return total.gather(1, heads[:, :, None].expand(-1, -1, total.shape[2]))


def _only(seen: Tensor, candidates: Tensor) -> Tensor:
    """`seen` [batch, heads or 1, rows, width] with all keys hidden that are not candidates."""
    hidden = ~candidates[:, None, None, :]  # [batch, 1, 1, width]
    return seen.masked_fill(hidden, 0 if seen.dtype == torch.bool else torch.finfo(seen.dtype).min)
