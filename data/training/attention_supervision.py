"""Supervision of the answering tokens' attention: image masking, and an attention loss.

Without supervision a small decoder reads the picture in its first layers only, and after them every
pruning method is lossless. Two measures, used in training only, move the reading to deeper layers:

- *image masking*: in some of the pictures no text sees the picture in the first layers, and the
  question's own words never do, so that the answering tokens must be able to read late;
- an *attention loss*: the answering tokens' attention, mean over heads, should lie on the first
  thing of a question at one layer, and on all its things, evenly, at a deeper one.

The answering tokens are the prompt's last and those of the answer: all that have a label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ..questions import Question
from ..scenes import Thing
from .family import VISUAL_TOKENS
from .packing import IGNORE, Packed
from .vision import coverage

INSIDE = 0.5
"""Least covered share of a visual token that belongs to a thing."""
FLOOR = 1e-3
"""Attention below which the attention loss grows no further."""


@dataclass(frozen=True)
class AttentionTargets:
    """Visual tokens that every answering token should attend to.

    first: bool [answering tokens, 144], the thing the question begins with; none where it is not in
        the picture: then no attention should go to the picture.
    last: bool [answering tokens, 144], the thing the answer is about, if there is one.
    weight: float32 [answering tokens]; a question's add up to 1.
    """

    first: torch.Tensor
    last: torch.Tensor
    weight: torch.Tensor

    @classmethod
    def of(cls, question: Question, tokens: int) -> AttentionTargets:
        """Targets of a question for a given number of answering tokens."""
        last = thing_tokens(question.targets)
        first = thing_tokens(question.anchors) if question.anchors else last
        weight = torch.full((tokens,), 1 / tokens)
        return cls(first.expand(tokens, -1), last.expand(tokens, -1), weight)

    @classmethod
    def join(cls, parts: Sequence[AttentionTargets]) -> AttentionTargets:
        """Targets of several questions, in order."""
        return cls(
            torch.cat([part.first for part in parts]),
            torch.cat([part.last for part in parts]),
            torch.cat([part.weight for part in parts]),
        )

    def to(self, device: torch.device) -> AttentionTargets:
        """The same on another device."""
        return AttentionTargets(self.first.to(device), self.last.to(device), self.weight.to(device))

    def first_attention_loss(self, attention: torch.Tensor) -> torch.Tensor:
        """Loss of attention [answering tokens, 144] against the first things: a scalar.

        Minus the logarithm of the attention on the thing; where there is none, of the attention
        that is not on the picture.
        """
        mass = torch.where(
            self.first.any(-1), (attention * self.first).sum(-1), 1 - attention.sum(-1)
        )
        return self._mean(-(mass + FLOOR).log(), torch.ones_like(self.weight))

    def all_attention_loss(self, attention: torch.Tensor) -> torch.Tensor:
        """Loss of attention against all the things: the mean of both logarithms."""
        first, last = (
            self._mean(-((attention * thing).sum(-1) + FLOOR).log(), thing.any(-1))
            for thing in (self.first, self.last)
        )
        return (first + last) / 2

    def _mean(self, losses: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        weight = self.weight * counted
        return (losses * weight).sum() / weight.sum()


def thing_tokens(things: Sequence[Thing]) -> torch.Tensor:
    """The visual tokens at least half inside one of the things: bool [144]."""
    inside = torch.zeros(VISUAL_TOKENS, dtype=torch.bool)
    for thing in things:
        inside |= coverage(thing) >= INSIDE
    return inside


@contextmanager
def mask_images(decoder: Any, packed: Packed, blind: torch.Tensor, until: int) -> Iterator[None]:
    """Hide the pictures where `blind` (bool [pictures]) from the text.

    The answering tokens see them again from layer `until` (from 1) on, the other text never.
    """
    whole = packed.mask()
    text, answering = packed.segment > 0, packed.labels != IGNORE
    early, late = whole.clone(), whole.clone()
    for mask, rows in ((early, text), (late, text & ~answering)):
        hidden = (rows & blind[:, None])[:, None, :, None]
        mask[..., packed.visual].masked_fill_(hidden, torch.finfo(mask.dtype).min)

    def masked(mask: torch.Tensor) -> Any:
        return lambda _, args, kwargs: (args, {**kwargs, "attention_mask": mask})

    handles = [
        layer.register_forward_pre_hook(masked(early if number < until else late), with_kwargs=True)
        for number, layer in enumerate(decoder.layers, start=1)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
