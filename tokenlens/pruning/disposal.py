"""What a disposal is: what becomes of the visual tokens a stage does not select.

The disposals themselves are in `disposals`, one function in one file each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from tokenlens.pruning.cost.decoder_cost import Floats, grouping_macs
from tokenlens.pruning.tokens import Counts, Tokens, arrange, take_rows
from tokenlens.pruning.tower_reading import TowerReading
from tokenlens.schedule.disposal_kinds import KINDS, DisposalKind


class StageDecision(NamedTuple):
    """A stage's decision.

    Attributes:
        tokens: what there is.
        kept: bool [batch, width], the visual tokens of `tokens` that are selected.
        keeping: how many that is per sample.
        merging: how many merged tokens are to stand for the rest.
        scores: floats [batch, width], the importance of the visual tokens.
        tower_reading: what the vision tower says of each token of the padded input; None where
            nothing asks for it.
    """

    tokens: Tokens
    kept: Tensor
    keeping: Counts
    merging: Counts
    scores: Tensor
    tower_reading: TowerReading | None = None

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
class BypassedTokens:
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
    bypassed: BypassedTokens | None = None


@dataclass(frozen=True)
class Disposal(DisposalKind):
    """A way to dispose of tokens: what schedules know of it, and how it is carried out.

    Attributes:
        apply: carries out a stage's decision.
        macs: multiply-accumulates of making so many tokens not kept, float64 [samples], into so
            many merged ones, of so many numbers in a hidden state, and of bringing them back.
        tower: whether the vision tower is to be read (`StageDecision.tower_reading`).
    """

    apply: Callable[[StageDecision], Disposed]
    macs: Callable[[Floats, Floats, int], Floats] = grouping_macs
    tower: bool = False

    @classmethod
    def own(
        cls,
        name: str,
        apply: Callable[[StageDecision], Disposed],
        *,
        macs: Callable[[Floats, Floats, int], Floats] = grouping_macs,
        tower: bool = False,
    ) -> Self:
        """A disposal of tokenlens itself, as `schedule.disposal_kinds` describes it by `name`."""
        return cls(apply, macs=macs, tower=tower, **vars(KINDS[name]))


def in_order(survivors: Tokens, merged: Tokens) -> Tokens:
    """Both in the order of the sequence."""
    both = survivors.join(merged)
    return both.take(both.slots.present, both.slots.lengths, both.slots.visuals)


def _minus(a: Counts, b: Counts) -> Counts:
    return tuple(m - n for m, n in zip(a, b, strict=True))


def _plus(a: Counts, b: Counts) -> Counts:
    return tuple(m + n for m, n in zip(a, b, strict=True))
