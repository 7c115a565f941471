"""Type of a disposal: what happens to the visual tokens that a stage does not select.

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
        tokens: all tokens at the stage.
        kept: bool [batch, width], the visual tokens of `tokens` that are selected.
        keeping: number of selected tokens of each sample.
        merging: number of merged tokens to make of the rest, per sample.
        scores: floats [batch, width], the importance of the visual tokens.
        tower_reading: importance and key of each token of the padded input in the vision tower;
            None where no scorer or disposal needs it.
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
        tokens: the tokens, with their hidden states at the stage.
        groups: the merged tokens that replace them; None where there are none.
    """

    tokens: Tokens
    groups: "Groups | None"

    def rejoin(self, going: Tokens) -> Tokens:
        """All tokens together again, in sequence order, without the merged ones.

        A bypassed token gets the change of its group's merged token (SwiftVLM §3.3):
        aside + (merged now - merged then).
        """
        device = going.hidden.device
        rest = self.tokens.to(device)
        lengths, visuals = rest.slots.lengths, rest.slots.visuals
        if self.groups is not None:
            merged = self.groups.merged.to(device)
            order = arrange(going.slots.index, going.slots.stand_in, merged.slots.width)
            # [batch, merged, hidden], then [batch, rest, hidden]
            offset = take_rows(going.hidden, order) - merged.hidden
            aligned = rest.hidden + take_rows(offset, self.groups.member_of.to(device))
            rest = rest._replace(hidden=aligned)
            lengths = visuals = _minus(lengths, merged.slots.lengths)
        # [batch, width of `going` + width of `rest`]
        keep = torch.cat([going.slots.present & ~going.slots.stand_in, rest.slots.present], dim=1)
        return going.join(rest).take(
            keep, _plus(going.slots.lengths, lengths), _plus(going.slots.visuals, visuals)
        )


class Groups(NamedTuple):
    """Merged tokens and, for each token of the rest, its group: int64 [batch, rest]."""

    merged: Tokens
    member_of: Tensor


class Disposed(NamedTuple):
    """The tokens of the next layer, the merged ones among them, and the tokens set aside."""

    tokens: Tokens
    merged: Tokens | None = None
    bypassed: BypassedTokens | None = None


@dataclass(frozen=True)
class Disposal(DisposalKind):
    """A way to dispose of tokens: its description for schedules, and the function that does it.

    Attributes:
        apply: carries out a stage's decision.
        macs: a function from the number of tokens not kept, float64 [samples], of merged tokens,
            and of numbers in a hidden state, to the multiply-accumulates of merging them and of
            bringing them back.
        tower: whether it needs the reading of the vision tower (`StageDecision.tower_reading`).
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
    """Both together, in sequence order."""
    both = survivors.join(merged)
    return both.take(both.slots.present, both.slots.lengths, both.slots.visuals)


def _minus(a: Counts, b: Counts) -> Counts:
    return tuple(m - n for m, n in zip(a, b, strict=True))


def _plus(a: Counts, b: Counts) -> Counts:
    return tuple(m + n for m, n in zip(a, b, strict=True))
