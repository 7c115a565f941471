"""Merging tokens into groups by the cosine similarity of their hidden states."""

import torch
from torch import Tensor

from tokenlens.pruning.disposal import Groups
from tokenlens.pruning.scoring import accumulation_dtype
from tokenlens.pruning.tokens import Counts, Tokens


def group(rest: Tokens, merging: Counts) -> Groups:
    """Group `rest` around evenly spread seeds by cosine similarity of hidden states.

    Seeds of R tokens in z groups are those at floor((i + 1/2)·R/z); every other token joins the
    most similar seed, ties to the earlier one. A merged token is the mean of its group, seed
    included, summed in float32 (float64 for a float64 model), at the seed's position.

    Args:
        rest: visual tokens not kept.
        merging: merged tokens per sample, at most as many as `rest` has, at least one somewhere.
    """
    slots = rest.slots
    seed_of = _seed_places(slots.lengths, merging, slots.width, slots.index.device)
    seeds = rest.take(seed_of >= 0, merging, merging)
    dtype = accumulation_dtype(rest.hidden)
    states = rest.hidden.to(dtype)
    directions = torch.nn.functional.normalize(states, dim=-1)
    seed_directions = torch.nn.functional.normalize(seeds.hidden.to(dtype), dim=-1)
    similarity = directions @ seed_directions.transpose(1, 2)
    nearest = similarity.masked_fill(~seeds.slots.present[:, None], -torch.inf).argmax(dim=2)
    member_of = seed_of.where(seed_of >= 0, nearest)
    belongs = torch.nn.functional.one_hot(member_of, seeds.slots.width)
    belongs = (belongs * slots.present[:, :, None]).to(dtype).transpose(1, 2)
    means = (belongs @ states) / belongs.sum(2, keepdim=True).clamp(min=1)
    return Groups(seeds._replace(hidden=means.to(rest.hidden.dtype)), member_of)


def _seed_places(rest: Counts, merging: Counts, width: int, device: torch.device) -> Tensor:
    """For each slot of the rest, right-aligned, which seed it is, or -1: int64 [batch, width]."""
    most = max(merging)
    r = torch.tensor(rest, device=device)[:, None]
    z = torch.tensor(merging, device=device)[:, None]
    column = torch.arange(most, device=device)[None]
    i = column - (most - z)
    place = ((2 * i + 1) * r).div(2 * z.clamp(min=1), rounding_mode="floor") + width - r
    place = place.where(i >= 0, width)
    places = torch.full((len(rest), width + 1), -1, device=device)
    return places.scatter(1, place, column.expand(len(rest), -1))[:, :width]
