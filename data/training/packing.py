"""All questions of a picture packed behind one copy of its visual tokens.

The sequence is the prompt's beginning up to the end of the picture, then every question with its
answer. A question sees the beginning and itself; its positions start over where the picture ended.
Each token therefore has the same context and the same positions as in an ordinary prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from .family import VISUAL_TOKENS, Family

IGNORE = -100


@dataclass(frozen=True)
class Packed:
    """Token sequences of several pictures, padded to one length.

    ids: int64 [pictures, length].
    segment: int64 [pictures, length], 0 the beginning, from 1 the questions, -1 padding.
    positions: int64 [..., pictures, length].
    labels: int64 [pictures, length], at each token the one to predict, IGNORE outside answers.
    visual: the columns of the visual tokens.
    """

    ids: torch.Tensor
    segment: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    visual: slice

    def mask(self) -> torch.Tensor:
        """Additive attention mask float32 [pictures, 1, length, length]."""
        length = self.ids.shape[1]
        seen = self.segment[:, None, :]
        allowed = (seen == 0) | (seen == self.segment[:, :, None])
        allowed &= torch.ones(length, length, dtype=torch.bool, device=self.ids.device).tril()
        return torch.where(allowed, 0.0, torch.finfo(torch.float32).min)[:, None]

    def to(self, device: torch.device) -> Packed:
        """The same on another device."""
        ids, segment, positions, labels = (
            x.to(device) for x in (self.ids, self.segment, self.positions, self.labels)
        )
        return Packed(ids, segment, positions, labels, self.visual)


class Packer:
    """Turns questions into packed sequences. A question is its token ids and its answer's."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._tokenizer = family.tokenizer()
        self._prefix = self.tokens(family.prefix())
        self._suffix = self.tokens(family.suffix)
        self._start = self._prefix.index(self.tokens(family.image_token)[0])

    def tokens(self, text: str) -> list[int]:
        """The ids of a text."""
        ids: list[int] = self._tokenizer(text)["input_ids"]
        return ids

    def segment(self, question: str, answer: str) -> tuple[list[int], list[int]]:
        """Input ids and labels of one question, the chat template's words behind it."""
        asked = self.tokens(question) + self._suffix
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
        visual = slice(self._start, self._start + VISUAL_TOKENS)
        return Packed(ids, segment, self._family.positions(place, self._start), labels, visual)

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


@dataclass(frozen=True)
class Answers:
    """Outputs of the model at the positions with a label.

    logits: [answer tokens, vocabulary].
    labels: int64 [answer tokens].
    attention: per layer, mean over heads, to the visual tokens [answer tokens, 144].
    """

    logits: torch.Tensor
    labels: torch.Tensor
    attention: tuple[torch.Tensor, ...]


def packed_answers(
    family: Family, model: PreTrainedModel, packed: Packed, visual: torch.Tensor
) -> Answers:
    """Run the decoder on packed questions.

    `visual` are the tower's tokens [pictures x 144, width], put where the placeholders are.
    """
    decoder = family.decoder(model)
    embeds = decoder.embed_tokens(packed.ids)
    width = embeds.shape[-1]
    embeds[:, packed.visual] = visual.view(len(embeds), -1, width).to(embeds.dtype)
    output = decoder(
        inputs_embeds=embeds,
        position_ids=packed.positions,
        attention_mask=family.decoder_mask(packed.mask()),
        use_cache=False,
        output_attentions=True,
    )
    answers = packed.labels != IGNORE
    return Answers(
        model.lm_head(output.last_hidden_state[answers]),
        packed.labels[answers],
        tuple(layer.mean(dim=1)[answers][:, packed.visual] for layer in output.attentions),
    )
