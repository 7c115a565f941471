"""Type of a disposal: what happens to the visual tokens that a stage does not select.

The disposals themselves are in `disposals`, one function in one file each.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from tokenlens.pruning.cost.decoder_cost import Floats, grouping_macs
from tokenlens.pruning.tokens import (
    Counts,
    Slots,
    Tokens,
    arrange,
    merged_among,
    put_rows,
    take_rows,
)
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
        return self.survivors_placed().tokens

    def survivors_placed(self) -> "Placed":
        """Text and kept tokens, with the slots they had."""
        return self._staying()

    def rest(self) -> Tokens:
        """Visual tokens not kept."""
        return self.rest_placed().tokens

    def rest_placed(self) -> "Placed":
        """Visual tokens not kept, with the slots they had."""
        slots = self.tokens.slots
        counts = _minus(slots.visuals, self.keeping)
        return Placed.of(self.tokens, slots.visual & ~self.kept, counts, counts)

    def _staying(self, merged: Tensor | None = None, counts: Counts | None = None) -> "Placed":
        """Survivors, and in the slots `merged` (bool [batch, width]) `counts` merged tokens."""
        tokens, slots = self.tokens, self.tokens.slots
        keep, visuals = self.kept | ~slots.visual, self.keeping
        if slots.ragged:
            keep = keep & slots.present
        if merged is not None and counts is not None:
            keep, visuals = keep | merged, _plus(visuals, counts)
            tokens = tokens._replace(slots=replace(slots, stand_in=merged))
        lengths = _plus(_minus(slots.lengths, slots.visuals), visuals)
        return Placed.of(tokens, keep, lengths, visuals)

    def with_merged(self, merged: Tokens, places: Tensor) -> "Placed":
        """Survivors and merged tokens in sequence order, the merged ones as stand-ins.

        `places` (int64 [batch, merged]) are slots of the rest, where the merged tokens go.
        """
        there = merged.slots.present
        mask = torch.zeros_like(self.kept).scatter_(1, places, there)
        staying = self._staying(mask, merged.slots.lengths)
        tokens = staying.tokens
        at = arrange(tokens.slots.index, merged_among(tokens.slots), there.shape[1])
        hidden = merged.hidden
        if merged.slots.ragged:
            hidden = hidden.where(there[:, :, None], take_rows(tokens.hidden, at))
        put_rows(tokens.hidden, at, hidden)
        return staying._replace(stand_ins=at)


class Placed(NamedTuple):
    """Some of a stage's tokens.

    Attributes:
        tokens: the tokens.
        order: int64 [batch, tokens], the slots that they had at the stage.
        stand_ins: int64 [batch, merged], the slots of merged tokens among `tokens`; None where
            there are none.
    """

    tokens: Tokens
    order: Tensor
    stand_ins: Tensor | None = None

    @classmethod
    def of(cls, tokens: Tokens, keep: Tensor, lengths: Counts, visuals: Counts) -> "Placed":
        """Those in `keep`; see `Tokens.take`."""
        order = arrange(tokens.slots.index, keep, max(lengths))
        slots = tokens.slots.take(order, keep.gather(1, order), lengths, visuals)
        return cls(Tokens(take_rows(tokens.hidden, order), slots), order)


@dataclass(frozen=True)
class BypassedTokens:
    """Tokens that bypass the layers up to the next stage.

    Attributes:
        tokens: the tokens, with their hidden states at the stage.
        groups: the merged tokens that replace them; None where there are none.
        stand_ins: the slots of those among the tokens that go on; see `Placed`.
        slots: those of all tokens at the stage.
        back: int64 [batch, width of `slots`], for each of them the place of its token in the
            concatenation of the tokens that go on and those that bypass.
    """

    tokens: Tokens
    groups: "Groups | None"
    stand_ins: Tensor | None
    slots: Slots
    back: Tensor

    @classmethod
    def beside(
        cls, going: Placed, rest: Placed, slots: Slots, groups: "Groups | None" = None
    ) -> "BypassedTokens":
        """`rest` beside the tokens that go on, which together had `slots`."""
        order = torch.cat([going.order, rest.order], dim=1)
        there = torch.cat([_own(going.tokens.slots), rest.tokens.slots.present], dim=1)
        width = slots.width
        # one more column, for fillers and merged tokens, which go nowhere
        back = order.new_zeros(len(order), width + 1)
        back.scatter_(
            1, order.where(there, width), torch.arange(order.shape[1], device=order.device)
            .expand_as(order)
        )  # fmt: skip
        return cls(rest.tokens, groups, going.stand_ins, slots, back[:, :width])

    def rejoin(self, going: Tokens) -> Tokens:
        """All tokens together again, in sequence order, without the merged ones.

        A bypassed token gets the change of its group's merged token (SwiftVLM §3.3):
        aside + (merged now - merged then).
        """
        device = going.hidden.device
        hidden = self.tokens.hidden.to(device)
        if self.groups is not None and self.stand_ins is not None:
            # [batch, merged, hidden], then [batch, rest, hidden]
            now = take_rows(going.hidden, self.stand_ins.to(device))
            moved = now - self.groups.merged.hidden.to(device)
            change = take_rows(moved, self.groups.member_of.to(device))
            hidden = change.add_(hidden)
        # [batch, width of `going` + width of the rest, hidden] to [batch, width, hidden]
        both = torch.cat([going.hidden, hidden], dim=1)
        slots = replace(self.slots.to(device), whole=False)
        return Tokens(take_rows(both, self.back.to(device)), slots)


class Groups(NamedTuple):
    """Merged tokens of the rest.

    Attributes:
        merged: the tokens.
        member_of: int64 [batch, rest], the group of each token.
        order: int64 [batch, merged], the slots among the rest where the merged tokens go.
    """

    merged: Tokens
    member_of: Tensor
    order: Tensor


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
        added: whether merged tokens are means by `grouping.group_means`, which adds where `macs`
            counts a product of the tokens with the groups.
    """

    apply: Callable[[StageDecision], Disposed]
    macs: Callable[[Floats, Floats, int], Floats] = grouping_macs
    tower: bool = False
    added: bool = True

    @classmethod
    def own(
        cls,
        name: str,
        apply: Callable[[StageDecision], Disposed],
        *,
        macs: Callable[[Floats, Floats, int], Floats] = grouping_macs,
        tower: bool = False,
        added: bool = True,
    ) -> Self:
        """A disposal of tokenlens itself, as `schedule.disposal_kinds` describes it by `name`."""
        return cls(apply, macs=macs, tower=tower, added=added, **vars(KINDS[name]))


def aside(decision: StageDecision) -> Disposed:
    """Keep the survivors and set the rest aside, with nothing in its place."""
    going, rest = decision.survivors_placed(), decision.rest_placed()
    return Disposed(
        going.tokens, bypassed=BypassedTokens.beside(going, rest, decision.tokens.slots)
    )


def merged_in(decision: StageDecision, merged: Tokens, places: Tensor) -> Disposed:
    """Keep the survivors and `merged` tokens, which stay, in the slots `places` of the rest."""
    tokens = decision.with_merged(merged, places).tokens
    return Disposed(tokens._replace(slots=replace(tokens.slots, stand_in=None)), merged)


def _own(slots: Slots) -> Tensor:
    """Slots that hold a token of their own, not a merged one: bool [batch, width]."""
    return slots.present if slots.stand_in is None else slots.present & ~slots.stand_in


def _minus(a: Counts, b: Counts) -> Counts:
    return tuple(m - n for m, n in zip(a, b, strict=True))


def _plus(a: Counts, b: Counts) -> Counts:
    return tuple(m + n for m, n in zip(a, b, strict=True))
