"""Merging tokens into groups by the cosine similarity of their features."""

from collections.abc import Callable

import torch
from torch import Tensor

from tokenlens.pruning.disposal import Groups
from tokenlens.pruning.scoring import accumulation_dtype
from tokenlens.pruning.tokens import Counts, Slots, Tokens, arrange, take_rows

Placing = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of seed i, the R tokens there are and the z seeds among them (all int64): the seed's place."""


def group(rest: Tokens, merging: Counts) -> Groups:
    """Group `rest` around evenly spread seeds by cosine similarity of hidden states.

    Seeds of R tokens in z groups are those at floor((i + 1/2)·R/z); every other token joins the
    most similar seed, ties to the earlier one. A merged token is the mean of its group, seed
    included, summed in float32 (float64 for a float64 model), at the seed's position.

    Args:
        rest: visual tokens not kept.
        merging: merged tokens per sample, at most as many as `rest` has, at least one somewhere.
    """
    seed_of = seed_places(rest.slots, merging, _evenly)
    states = rest.hidden.to(accumulation_dtype(rest.hidden))
    member_of = join_nearest(states, rest.slots, seed_of, merging)
    means = group_means(states, member_of, rest.slots.present, max(merging))
    seeds = rest.take(seed_of >= 0, merging, merging)
    return Groups(seeds._replace(hidden=means.to(rest.hidden.dtype)), member_of)


def _evenly(i: Tensor, rest: Tensor, seeds: Tensor) -> Tensor:
    return ((2 * i + 1) * rest).div(2 * seeds, rounding_mode="floor")


def seed_places(slots: Slots, merging: Counts, placing: Placing) -> Tensor:
    """For each slot (right-aligned) the number of the seed in it, or -1: int64 [batch, width]."""
    device, width, most = slots.index.device, slots.width, max(merging)
    r = torch.tensor(slots.lengths, device=device)[:, None]  # [batch, 1]
    z = torch.tensor(merging, device=device)[:, None]  # [batch, 1]
    column = torch.arange(most, device=device)[None]  # [1, most]
    i = column - (most - z)  # [batch, most], negative where a sample has fewer than `most` seeds
    place = (placing(i, r, z.clamp(min=1)) + width - r).where(i >= 0, width)  # [batch, most]
    places = torch.full((len(merging), width + 1), -1, device=device)  # last column: no seed
    return places.scatter(1, place, column.expand(len(merging), -1))[:, :width]  # [batch, width]


def join_nearest(features: Tensor, slots: Slots, seed_of: Tensor, merging: Counts) -> Tensor:
    """The seed of each token: its own, or the one with the most similar features by cosine.

    Ties go to the earlier seed.

    Args:
        features: floats [batch, width, size].
        slots: the slots of the tokens.
        seed_of: from `seed_places`.
        merging: seeds per sample.

    Returns:
        int64 [batch, width].
    """
    order = arrange(slots.index, seed_of >= 0, max(merging))  # [batch, seeds]
    directions = torch.nn.functional.normalize(features, dim=-1)  # [batch, width, size]
    # [batch, width, size] @ [batch, size, seeds] = [batch, width, seeds]
    similarity = directions @ take_rows(directions, order).transpose(1, 2)
    there = (seed_of >= 0).gather(1, order)  # [batch, seeds]
    nearest = similarity.masked_fill(~there[:, None], -torch.inf).argmax(dim=2)  # [batch, width]
    return seed_of.where(seed_of >= 0, nearest)


def group_means(states: Tensor, member_of: Tensor, members: Tensor, groups: int) -> Tensor:
    """The mean of the `members` (bool [batch, width]) of each group, 0 where there is none.

    Args:
        states: floats [batch, width, size].
        member_of: int64 [batch, width], the group of each token.
        members: bool [batch, width], the tokens that are averaged.
        groups: number of groups.

    Returns:
        floats [batch, groups, size].
    """
    belongs = torch.nn.functional.one_hot(member_of, groups)  # [batch, width, groups]
    # [batch, groups, width]
    belongs = (belongs * members[:, :, None]).to(states.dtype).transpose(1, 2)
    # [batch, groups, width] @ [batch, width, size] = [batch, groups, size]
    return (belongs @ states) / belongs.sum(2, keepdim=True).clamp(min=1)
