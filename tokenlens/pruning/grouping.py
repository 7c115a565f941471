"""Merging tokens into groups by the cosine similarity of their features.

Time and memory grow with the number of tokens times that of the groups at most: similarities are
made in blocks, and means by adding every token to its group.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from tokenlens.pruning.attention_rows import accumulation_dtype
from tokenlens.pruning.disposal import Groups
from tokenlens.pruning.tokens import Counts, Slots, Tokens, arrange, flat_places, take_rows

Placing = Callable[[int, int, int], int]
"""Of seed i, the R tokens there are and the z seeds among them: the seed's place."""

_LARGEST_BLOCK = 2**22
"""Similarities held at once while tokens look for their nearest seed; more are made in turns."""


@dataclass(frozen=True, eq=False)
class Seeds:
    """The seeds of the groups, which counts of tokens alone decide.

    Attributes:
        of_slot: int64 [batch, width], for each slot (right-aligned) the number of the seed in it,
            or -1.
        there: bool [batch, width], whether there is one.
        order: int64 [batch, seeds], the slots of the seeds, right-aligned.
        present: bool [batch, seeds], False where a sample has fewer seeds than another.
        counts: seeds of each sample.
    """

    of_slot: Tensor
    there: Tensor
    order: Tensor
    present: Tensor
    counts: Counts

    @classmethod
    def among(cls, slots: Slots, merging: Counts, placing: Placing) -> "Seeds":
        """Those of `merging` groups of right-aligned tokens; made once for the same counts."""
        return _seeds(slots.lengths, merging, slots.width, placing, slots.index.device)

    @property
    def ragged(self) -> bool:
        """Whether some samples have fewer seeds than others."""
        return len(set(self.counts)) > 1


def group(rest: Tokens, merging: Counts) -> Groups:
    """Group `rest` around evenly spread seeds by cosine similarity of hidden states.

    Seeds of R tokens in z groups are those at floor((i + 1/2)·R/z); every other token joins the
    most similar seed, ties to the earlier one. A merged token is the mean of its group, seed
    included, summed in float32 (float64 for a float64 model), at the seed's position.

    Args:
        rest: visual tokens not kept.
        merging: merged tokens per sample, at most as many as `rest` has, at least one somewhere.
    """
    seeds = Seeds.among(rest.slots, merging, _evenly)
    states = rest.hidden.to(accumulation_dtype(rest.hidden))
    member_of = join_nearest(states, seeds)
    members = rest.slots.present if rest.slots.ragged else None
    means = group_means(states, member_of, members, max(merging))
    slots = rest.slots.take(seeds.order, seeds.present, merging, merging)
    return Groups(Tokens(means.to(rest.hidden.dtype), slots), member_of, seeds.order)


def _evenly(i: int, rest: int, seeds: int) -> int:
    return (2 * i + 1) * rest // (2 * seeds)


@lru_cache(maxsize=64)
def _seeds(
    lengths: Counts, merging: Counts, width: int, placing: Placing, device: torch.device
) -> Seeds:
    most = max(merging)
    with torch.inference_mode(mode=False):  # so that a later backward pass can use them too
        of_slot = torch.full((len(lengths), width), -1)
        for sample, (tokens, seeds) in enumerate(zip(lengths, merging, strict=True)):
            for i in range(seeds):
                of_slot[sample, width - tokens + placing(i, tokens, seeds)] = most - seeds + i
        found = of_slot >= 0
        order = arrange(torch.arange(width).expand_as(of_slot), found, most)
        present = found.gather(1, order)
        return Seeds(
            of_slot.to(device), found.to(device), order.to(device), present.to(device), merging
        )


def join_nearest(features: Tensor, seeds: Seeds) -> Tensor:
    """The seed of each token: its own, or the one with the most similar features by cosine.

    Ties go to the earlier seed.

    Args:
        features: floats [batch, width, size].
        seeds: among the same slots.

    Returns:
        int64 [batch, width].
    """
    directions = torch.nn.functional.normalize(features, dim=-1)  # [batch, width, size]
    towards = take_rows(directions, seeds.order).transpose(1, 2)  # [batch, size, seeds]
    block = max(1, _LARGEST_BLOCK // seeds.order.numel())
    nearest = []
    for rows in directions.split(block, dim=1):
        similarity = rows @ towards  # [batch, block, seeds]
        if seeds.ragged:
            similarity = similarity.masked_fill(~seeds.present[:, None], -torch.inf)
        nearest.append(similarity.argmax(dim=2))
    found = nearest[0] if len(nearest) == 1 else torch.cat(nearest, dim=1)
    return seeds.of_slot.where(seeds.there, found)


def group_means(states: Tensor, member_of: Tensor, members: Tensor | None, groups: int) -> Tensor:
    """The mean of the members of each group, 0 where there is none.

    Args:
        states: floats [batch, width, size].
        member_of: int64 [batch, width], the group of each token.
        members: bool [batch, width], the tokens that are averaged; None for all.
        groups: number of groups.

    Returns:
        floats [batch, groups, size].
    """
    batch, _, size = states.shape
    place, count = flat_places(member_of, groups), batch * groups  # [batch * width]
    if members is not None:  # all others go into one behind the last group
        place, count = place.where(members.flatten(), count), count + 1
    sums = _summed(states.flatten(0, 1), place, count)
    counts = _summed(states.new_ones(()).expand(len(place), 1), place, count)
    return (sums / counts.clamp(min=1))[: batch * groups].view(batch, groups, size)


def _summed(rows: Tensor, place: Tensor, count: int) -> Tensor:
    """Sums [count, size] of the `rows` [n, size] of each place, the same bits in every run."""
    sums = rows.new_zeros(count, rows.shape[1])
    if rows.is_cuda:  # where index_add_ adds in whatever order threads arrive
        return sums.index_put_((place,), rows, accumulate=True)
    return sums.index_add_(0, place, rows)
