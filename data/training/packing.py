"""All questions of a picture packed behind one copy of its visual tokens.

The sequence is the prompt's beginning up to the end of the picture, then every question with its
answer. A question sees the beginning and itself; its positions start over where the picture ended.
So each token has the very context, and the very M-RoPE positions, it has in an ordinary prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen2VLForConditionalGeneration

from .model import SIDE, VISUAL_TOKENS, decoder

IGNORE = -100
PREFIX = "<|im_start|>user\n<|vision_start|>" + "<|image_pad|>" * VISUAL_TOKENS + "<|vision_end|>"
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n"
"""What the chat template puts before and behind a question about one picture."""


@dataclass(frozen=True)
class Packed:
    """Token sequences of several pictures, padded to one length.

    ids: int64 [pictures, length].
    segment: int64 [pictures, length], 0 the beginning, from 1 the questions, -1 padding.
    positions: int64 [3, pictures, length].
    labels: int64 [pictures, length], at each token the one to predict, IGNORE outside answers.
    """

    ids: torch.Tensor
    segment: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor

    def mask(self) -> torch.Tensor:
        """Additive attention mask float32 [pictures, 1, length, length]."""
        length = self.ids.shape[1]
        seen = self.segment[:, None, :]
        allowed = (seen == 0) | (seen == self.segment[:, :, None])
        allowed &= torch.ones(length, length, dtype=torch.bool, device=self.ids.device).tril()
        return torch.where(allowed, 0.0, torch.finfo(torch.float32).min)[:, None]

    def to(self, device: torch.device) -> Packed:
        """The same on another device."""
        return Packed(
            *(x.to(device) for x in (self.ids, self.segment, self.positions, self.labels))
        )


class Packer:
    """Turns questions into packed sequences. A question is its token ids and its answer's."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._prefix = self.tokens(PREFIX)
        self._suffix = self.tokens(SUFFIX)
        self._start = self._prefix.index(self.tokens("<|image_pad|>")[0])

    def tokens(self, text: str) -> list[int]:
        """The ids of a text."""
        return self._tokenizer(text)["input_ids"]

    def segment(self, question: str, answer: str, *, chat: bool) -> tuple[list[int], list[int]]:
        """Input ids and labels of one question; `chat` puts the template's words behind it."""
        asked = self.tokens(question) + (self._suffix if chat else [])
        answered = [*self.tokens(answer), self._tokenizer.eos_token_id]
        ids = asked + answered[:-1]
        return ids, [IGNORE] * (len(asked) - 1) + answered

    def pack(self, pictures: Sequence[Sequence[tuple[list[int], list[int]]]]) -> Packed:
        """Pack each picture's segments."""
        rows = [self._row(segments) for segments in pictures]
        length = max(len(row[0]) for row in rows)
        fillers = (self._tokenizer.pad_token_id, -1, 0, IGNORE)
        ids, segment, place, labels = (
            torch.stack(
                [
                    functional.pad(
                        torch.tensor(row[part]), (0, length - len(row[part])), value=fill
                    )
                    for row in rows
                ]
            )
            for part, fill in enumerate(fillers)
        )
        return Packed(ids, segment, self._positions(place), labels)

    def _row(self, segments: Sequence[tuple[list[int], list[int]]]) -> tuple[list[int], ...]:
        size = len(self._prefix)
        ids, segment, labels = list(self._prefix), [0] * size, [IGNORE] * size
        place = list(range(size))
        for number, (asked, answered) in enumerate(segments, start=1):
            ids += asked
            labels += answered
            segment += [number] * len(asked)
            place += range(size, size + len(asked))
        return ids, segment, place, labels

    def _positions(self, place: torch.Tensor) -> torch.Tensor:
        """M-RoPE positions [3, ...] of places in a prompt: a picture moves the text on by SIDE."""
        behind = place - (VISUAL_TOKENS - SIDE)
        within = place - self._start
        axes = [torch.zeros_like(place), within // SIDE, within % SIDE]
        visual = (within >= 0) & (within < VISUAL_TOKENS)
        text = torch.where(within < 0, place, behind)
        return torch.stack([torch.where(visual, self._start + axis, text) for axis in axes])


def packed_logits(
    model: Qwen2VLForConditionalGeneration, packed: Packed, visual: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [answer tokens, vocabulary] at the places with a label, and their labels.

    `visual` are the tower's tokens [pictures x 144, width], put where the placeholders are.
    """
    text = decoder(model)
    embeds = text.embed_tokens(packed.ids)
    images = (packed.ids == model.config.image_token_id)[..., None]
    hidden = text(
        inputs_embeds=embeds.masked_scatter(images, visual),
        position_ids=packed.positions,
        attention_mask={"full_attention": packed.mask()},
        use_cache=False,
    ).last_hidden_state
    answers = packed.labels != IGNORE
    return model.lm_head(hidden[answers]), packed.labels[answers]
