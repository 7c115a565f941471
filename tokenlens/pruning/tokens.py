"""Tokens of a layer's input: a ragged batch, right-aligned, with fillers on the left.

All positions refer to the padded input, so that the model's own masks and positions can be read for
a token at any depth.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

Counts = tuple[int, ...]
"""One number per sample, known on the host so that no layer waits for the device."""


@dataclass(frozen=True, eq=False)
class Slots:
    """Positions and kinds of a batch's tokens. Every tensor is [batch, width].

    Attributes:
        index: int64, position in the padded input; a merged token has its seed's, a filler 0.
        present: bool, False for padding and fillers, which no token attends to.
        visual: bool, the candidates of the next stage: visual tokens and merged ones.
        stand_in: bool, merged tokens that leave when a bypass brings their members back; None while
            there are none.
        number: int64, the new rotary position of each token; None while every token has its
            original position.
        lengths: present tokens of each sample.
        visuals: visual tokens of each sample.
        whole: whether the slots are still those of the padded input, unchanged.
    """

    index: Tensor
    present: Tensor
    visual: Tensor
    stand_in: Tensor | None
    number: Tensor | None
    lengths: Counts
    visuals: Counts
    whole: bool = False

    @classmethod
    def of_input(cls, visual: Tensor, attended: Tensor) -> "Slots":
        """The slots of a padded input: `visual` and `attended` bool [batch, length]."""
        batch, length = visual.shape
        visual = visual & attended
        lengths, visuals = torch.stack([attended.sum(1), visual.sum(1)]).tolist()  # [2, batch]
        return cls(
            index=torch.arange(length, device=visual.device).expand(batch, length),
            present=attended,
            visual=visual,
            stand_in=None,
            number=None,
            lengths=tuple(lengths),
            visuals=tuple(visuals),
            whole=True,
        )

    @property
    def width(self) -> int:
        """Slots per sample."""
        return self.index.shape[1]

    @cached_property
    def ragged(self) -> bool:
        """Whether some slots hold padding or fillers."""
        return any(length != self.width for length in self.lengths)

    @cached_property
    def last_number(self) -> Tensor | None:
        """The new rotary position of each sample's last token, int64 [batch]; None without any."""
        return None if self.number is None else self.number[:, -1]

    def take(self, order: Tensor, present: Tensor, lengths: Counts, visuals: Counts) -> "Slots":
        """The slots `order` (int64 [batch, new width]), of which `present` are no fillers.

        `lengths` are the numbers of present tokens of each sample, `visuals` of visual ones.
        """
        taken = Slots(
            index=self.index.gather(1, order),
            present=present,
            visual=self.visual.gather(1, order),
            stand_in=None if self.stand_in is None else self.stand_in.gather(1, order),
            number=None if self.number is None else self.number.gather(1, order),
            lengths=lengths,
            visuals=visuals,
        )
        return taken._without_fillers() if taken.ragged else taken

    def _without_fillers(self) -> "Slots":
        """The same, with nothing in slots that hold no token."""
        return replace(
            self,
            index=self.index.where(self.present, 0),
            visual=self.visual & self.present,
            stand_in=None if self.stand_in is None else self.stand_in & self.present,
        )

    def numbered(self) -> "Slots":
        """The same tokens with positions 0, 1, 2, … in sequence order."""
        return replace(self, number=(self.present.cumsum(1) - 1).clamp(min=0))

    def reachable(self, length: int, window: int | None) -> Counts:
        """Present tokens per sample that the token after a prompt of `length` still sees."""
        if window is None:
            return self.lengths
        seen = self.present & (self.index > length - window)
        return tuple(seen.sum(1).tolist())

    def to(self, device: torch.device) -> "Slots":
        """The same slots on another device."""
        if self.index.device == device:
            return self
        return replace(
            self,
            index=self.index.to(device),
            present=self.present.to(device),
            visual=self.visual.to(device),
            stand_in=None if self.stand_in is None else self.stand_in.to(device),
            number=None if self.number is None else self.number.to(device),
        )


class Tokens(NamedTuple):
    """Slots and the hidden states in them, [batch, width, hidden]."""

    hidden: Tensor
    slots: Slots

    def to(self, device: torch.device) -> "Tokens":
        """The same tokens on another device."""
        return Tokens(self.hidden.to(device), self.slots.to(device))

    def take(self, keep: Tensor, lengths: Counts, visuals: Counts) -> "Tokens":
        """Only the tokens in `keep` (bool [batch, width]), in sequence order.

        `lengths` are the numbers of kept tokens of each sample, `visuals` of kept visual tokens.
        """
        order = arrange(self.slots.index, keep, max(lengths))  # [batch, new width]
        taken = self.slots.take(order, keep.gather(1, order), lengths, visuals)
        return Tokens(take_rows(self.hidden, order), taken)

    def join(self, other: "Tokens") -> "Tokens":
        """Both sets concatenated: [batch, width + other width]; `take` sorts them by position."""
        a, b = self.slots, other.slots
        number = stand_in = None
        if a.number is not None and b.number is not None:
            number = torch.cat([a.number, b.number], dim=1)
        if a.stand_in is not None or b.stand_in is not None:
            stand_in = torch.cat([merged_among(a), merged_among(b)], dim=1)
        slots = Slots(
            index=torch.cat([a.index, b.index], dim=1),
            present=torch.cat([a.present, b.present], dim=1),
            visual=torch.cat([a.visual, b.visual], dim=1),
            stand_in=stand_in,
            number=number,
            lengths=tuple(m + n for m, n in zip(a.lengths, b.lengths, strict=True)),
            visuals=tuple(m + n for m, n in zip(a.visuals, b.visuals, strict=True)),
        )
        return Tokens(torch.cat([self.hidden, other.hidden], dim=1), slots)


def arrange(index: Tensor, keep: Tensor, width: int) -> Tensor:
    """The last `width` slots when those in `keep` are sorted by `index`: int64 [batch, width].

    >>> arrange(torch.tensor([[4, 0, 2]]), torch.tensor([[True, True, False]]), 2)
    tensor([[1, 0]])
    """
    order = index.where(keep, -1).argsort(dim=1, stable=True)  # slots not in `keep` come first
    return order[:, order.shape[1] - width :]


def take_rows(tensor: Tensor, order: Tensor) -> Tensor:
    """Rows `order` (int64 [batch, width]) of `tensor` [batch, length, size], in that order."""
    if len(order) == 1:
        return tensor.index_select(1, order[0])
    rows = tensor.flatten(0, 1).index_select(0, flat_places(order, tensor.shape[1]))
    return rows.view(*order.shape, tensor.shape[-1])


def put_rows(tensor: Tensor, order: Tensor, rows: Tensor) -> None:
    """Write `rows` into the places `order` (int64 [batch, width]) of `tensor`, in place.

    `tensor` is [batch, length, size] and contiguous.
    """
    places = flat_places(order, tensor.shape[1])
    tensor.view(-1, tensor.shape[-1]).index_copy_(0, places, rows.flatten(0, 1))


def flat_places(order: Tensor, length: int) -> Tensor:
    """Places `order` (int64 [batch, width]) in samples of `length` rows that follow one another.

    int64 [batch * width].
    """
    if len(order) == 1:
        return order[0]
    first = torch.arange(0, len(order) * length, length, device=order.device)
    return (order + first[:, None]).flatten()


def merged_among(slots: Slots) -> Tensor:
    """The slots of merged tokens that stand in for others: bool [batch, width]."""
    return torch.zeros_like(slots.visual) if slots.stand_in is None else slots.stand_in
