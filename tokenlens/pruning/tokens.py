"""Tokens of a layer's input: a ragged batch, right-aligned, with fillers on the left.

All positions refer to the padded input, so that the model's own masks and positions can be read for
a token at any depth.
"""

from dataclasses import dataclass, replace
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
        stand_in: bool, merged tokens that leave when a bypass brings their members back.
        number: int64, the new rotary position of each token; None while every token has its
            original position.
        lengths: present tokens of each sample.
        visuals: visual tokens of each sample.
        whole: whether the slots are still those of the padded input, unchanged.
    """

    index: Tensor
    present: Tensor
    visual: Tensor
    stand_in: Tensor
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
            stand_in=torch.zeros_like(visual),
            number=None,
            lengths=tuple(lengths),
            visuals=tuple(visuals),
            whole=True,
        )

    @property
    def width(self) -> int:
        """Slots per sample."""
        return self.index.shape[1]

    @property
    def ragged(self) -> bool:
        """Whether some slots hold padding or fillers."""
        return any(length != self.width for length in self.lengths)

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
            stand_in=self.stand_in.to(device),
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
        slots = self.slots
        order = arrange(slots.index, keep, max(lengths))  # [batch, new width]
        present = keep.gather(1, order)
        taken = Slots(
            index=slots.index.gather(1, order).where(present, 0),
            present=present,
            visual=slots.visual.gather(1, order) & present,
            stand_in=slots.stand_in.gather(1, order) & present,
            number=None if slots.number is None else slots.number.gather(1, order),
            lengths=lengths,
            visuals=visuals,
        )
        return Tokens(take_rows(self.hidden, order), taken)

    def join(self, other: "Tokens") -> "Tokens":
        """Both sets concatenated: [batch, width + other width]; `take` sorts them by position."""
        a, b = self.slots, other.slots
        number = None
        if a.number is not None and b.number is not None:
            number = torch.cat([a.number, b.number], dim=1)
        slots = Slots(
            index=torch.cat([a.index, b.index], dim=1),
            present=torch.cat([a.present, b.present], dim=1),
            visual=torch.cat([a.visual, b.visual], dim=1),
            stand_in=torch.cat([a.stand_in, b.stand_in], dim=1),
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
        return tensor[:, order[0]]
    return tensor.gather(1, order[:, :, None].expand(-1, -1, tensor.shape[-1]))
