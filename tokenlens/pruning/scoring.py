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

from tokenlens.pruning.tokens import Counts, Tokens
from tokenlens.pruning.tower_reading import TowerReading
from tokenlens.schedule import MassKeep, Scorer
from tokenlens.schedule.token_counts import within_limits

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Prompt:
    """The padded input, as scorers receive it. Tensors are [batch, length].

    Attributes:
        ids: int64, token ids.
        visual: bool, attended visual tokens.
        attended: bool, False for padding.
        end: length of the padded prompt; later tokens (candidates of assisted decoding) are not
            part of it.
        ends_in_text: whether it ends in a text token of every sample, with nothing after it.
        recorded: per sample, importance [layers, n_visual] of the unpruned model; None where it
            was not recorded.
        tower_reading: importance and key of each token in the vision tower; None where no scorer or
            disposal needs it.
    """

    ids: Tensor
    visual: Tensor
    attended: Tensor
    end: int
    ends_in_text: bool = False
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

    def text_counts(self) -> Counts:
        """The number of them in each sample."""
        return tuple(self.text_after().sum(1).tolist())


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
        final: whether they are, in every prompt, the last token's row alone.
    """

    rows: Callable[[Prompt, Tensor], Tensor]
    final: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class DirectScoring(Scoring):
    """Importance without reading the decoder's attention, so also at layer 0.

    Attributes:
        scores: a function from the prompt, the current tokens with their hidden states, the stage's
            context and its scorer to the importance of every candidate (`tokens.slots.visual`):
            floats [batch, width]; values of other tokens are ignored.
    """

    scores: Callable[[Prompt, Tokens, StageContext, Scorer], Tensor]


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
    best = torch.zeros_like(candidates)
    if len(set(counts)) == 1:  # no word of the counts to the device
        best.scatter_(1, order[:, : counts[0]], True)
    else:
        limits = torch.tensor(counts, device=order.device)[:, None]  # [batch, 1]
        best.scatter_(1, order, torch.arange(order.shape[1], device=order.device) < limits)
    return candidates & best


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
