"""What happens to the visual tokens a stage does not select: one function each, in `DISPOSALS`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from tokenlens.pruning.scoring import accumulation_dtype
from tokenlens.pruning.tokens import Counts, Tokens, arrange, take_rows


class Cut(NamedTuple):
    """A stage's decision: which visual tokens of `tokens` are `kept` (bool [batch, width]).

    `keeping` says how many that is per sample, `merging` how many merged tokens stand for the rest.
    """

    tokens: Tokens
    kept: Tensor
    keeping: Counts
    merging: Counts

    def survivors(self) -> Tokens:
        """Text and kept tokens, without padding."""
        slots = self.tokens.slots
        lengths = _minus(slots.lengths, _minus(slots.visuals, self.keeping))
        return self.tokens.take(slots.present & (self.kept | ~slots.visual), lengths, self.keeping)

    def rest(self) -> Tokens:
        """Visual tokens not kept."""
        slots = self.tokens.slots
        counts = _minus(slots.visuals, self.keeping)
        return self.tokens.take(slots.visual & ~self.kept, counts, counts)


@dataclass(frozen=True)
class Aside:
    """Tokens that bypass the layers up to the next stage.

    Attributes:
        tokens: they, with the hidden states they left with.
        groups: what stands for them; None where nothing does.
    """

    tokens: Tokens
    groups: "Groups | None"

    def rejoin(self, going: Tokens) -> Tokens:
        """All tokens together again, in sequence order, without the merged ones.

        A token set aside is aligned with what its group has gone through since (SwiftVLM §3.3):
        aside + (merged now - merged then).
        """
        device = going.hidden.device
        rest = self.tokens.to(device)
        lengths, visuals = rest.slots.lengths, rest.slots.visuals
        if self.groups is not None:
            merged = self.groups.merged.to(device)
            order = arrange(going.slots.index, going.slots.stand_in, merged.slots.width)
            offset = take_rows(going.hidden, order) - merged.hidden
            aligned = rest.hidden + take_rows(offset, self.groups.member_of.to(device))
            rest = rest._replace(hidden=aligned)
            lengths = visuals = _minus(lengths, merged.slots.lengths)
        keep = torch.cat([going.slots.present & ~going.slots.stand_in, rest.slots.present], dim=1)
        return going.join(rest).take(
            keep, _plus(going.slots.lengths, lengths), _plus(going.slots.visuals, visuals)
        )


class Groups(NamedTuple):
    """Merged tokens and, for each of the rest, which one it is in: int64 [batch, rest]."""

    merged: Tokens
    member_of: Tensor


class Disposed(NamedTuple):
    """What goes on after a stage, the merged tokens in it, and what is set aside."""

    tokens: Tokens
    merged: Tokens | None = None
    aside: Aside | None = None


def drop(cut: Cut) -> Disposed:
    """The rest leaves for good."""
    return Disposed(cut.survivors())


def merge(cut: Cut) -> Disposed:
    """The rest goes on as merged tokens, which compete at later stages like any other."""
    if not any(cut.merging):
        return drop(cut)
    merged = group(cut.rest(), cut.merging).merged
    return Disposed(_in_order(cut.survivors(), merged), merged)


def bypass(cut: Cut) -> Disposed:
    """The rest is set aside for the next stage; merged tokens stand in for it until then."""
    rest, survivors = cut.rest(), cut.survivors()
    if not any(cut.merging):
        return Disposed(survivors, aside=Aside(rest, None))
    groups = group(rest, cut.merging)
    merged = groups.merged
    stand_ins = merged._replace(slots=replace(merged.slots, stand_in=merged.slots.present))
    return Disposed(_in_order(survivors, stand_ins), merged, Aside(rest, groups))


DISPOSALS: dict[str, Callable[[Cut], Disposed]] = {"drop": drop, "merge": merge, "bypass": bypass}


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


def _in_order(survivors: Tokens, merged: Tokens) -> Tokens:
    both = survivors.join(merged)
    return both.take(both.slots.present, both.slots.lengths, both.slots.visuals)


def _minus(a: Counts, b: Counts) -> Counts:
    return tuple(m - n for m, n in zip(a, b, strict=True))


def _plus(a: Counts, b: Counts) -> Counts:
    return tuple(m + n for m, n in zip(a, b, strict=True))
