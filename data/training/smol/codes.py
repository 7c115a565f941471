"""Target vectors of visual tokens for a pretrained decoder: sums of word embeddings.

A token inside a thing is the sum of the embeddings of its colour, its shape and its letter, and of
three weaker vectors for its box: the letters of its left and top lines, and the word "small"
or "large". Any other token is the embedding of "empty" plus small codes of its row and its column.
A pretrained decoder can already find words in its context and copy them into its answer. It did not
learn to read random vectors, or words that do not occur in the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...scenes import COLOURS, LETTERS, SHAPES, SIDES
from ..family import SIDE, VISUAL_TOKENS
from ..vision import OUTSIDE

LINES = "abcdefghijklmnopqrstuvwxy"
"""The letters of the grid lines, as answers name them: a box is `d f m y`."""
SIZE_WORDS = (" small", " large")
PLACE, BOX = 0.3, 1.26
"""Size of the codes of rows and columns in units of the embeddings' rms; norm of box vectors."""
SHARPNESS = 8.0
_GROUPS = [len(COLOURS), len(SHAPES), len(LETTERS)]


@dataclass(frozen=True)
class TokenCodes:
    """Vectors whose sums are the targets of tokens.

    words: float32 [23, width], colours, shapes, letters and "empty".
    left, top, size: float32 [25 or 2, width], of a box. Left and top use two tokens of the
    vocabulary: the letter at the start of an answer, and the letter after a space. Their common
    part with the letters on things is removed, so that the two are not confused.
    places: float32 [2, 12, width], of rows and of columns.
    """

    words: Tensor
    left: Tensor
    top: Tensor
    size: Tensor
    places: Tensor

    @classmethod
    def of(cls, embeddings: Tensor, tokenizer: Any, seed: int = 7) -> TokenCodes:
        """The codes for a vocabulary: embeddings [vocabulary, width]."""

        def rows(words: Iterable[str]) -> Tensor:
            return torch.stack([embeddings[tokenizer(w)["input_ids"]].mean(dim=0) for w in words])

        generator = torch.Generator().manual_seed(seed)
        rms = float(embeddings.pow(2).mean().sqrt())
        places = PLACE * rms * torch.randn(2, SIDE, embeddings.shape[1], generator=generator)
        words = rows(f" {word}" for word in (*COLOURS, *SHAPES, *LETTERS, "empty"))
        marks = words[-1 - len(LETTERS) : -1] - words[:-1].mean(dim=0)
        left, top = (_apart(rows(f"{gap}{line}" for line in LINES), marks) for gap in ("", " "))
        return cls(words, left, top, _of_size(_centred(rows(SIZE_WORDS))), places)

    def tokens(self, labels: Tensor) -> Tensor:
        """Target tokens of labels: int64 [..., 144, 7] to float32 [..., 144, width].

        Labels are those of `vision.token_labels`.
        """
        known = labels.clamp(min=0)
        starts = (0, _GROUPS[0], _GROUPS[0] + _GROUPS[1])
        thing = torch.stack(
            [self.words[start + known[..., i]] for i, start in enumerate(starts)]
        ).sum(dim=0)
        box = self.left[known[..., 3]] + self.top[known[..., 4]] + self.size[size_of(known)]
        at = torch.arange(VISUAL_TOKENS)
        empty = self.words[-1] + self.places[0][at // SIDE] + self.places[1][at % SIDE]
        return torch.where(inside(labels)[..., None], thing + box, empty)

    def read(self, tokens: Tensor) -> dict[str, Tensor]:
        """Scores of the classes of each property, each [n, classes], from tokens [n, width].

        The largest score belongs to the nearest vector of its group.
        """
        colours, shapes, letters = torch.split(self.words[:-1], _GROUPS)
        groups = {"colour": colours, "shape": shapes, "letter": letters}
        groups |= {"left": self.left, "top": self.top, "size": self.size}
        return {name: _nearness(tokens, rows) for name, rows in groups.items()}

    def loss(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the box words, and the share read right per property, on things only.

        tokens [n, width], labels int64 [n, 7].
        """
        wanted = (*labels[:, :3].unbind(1), labels[:, 3], labels[:, 4], size_of(labels))
        total, right = tokens.new_zeros(()), {}
        for (name, scores), classes in zip(self.read(tokens).items(), wanted, strict=True):
            right[name] = (scores.argmax(-1) == classes).float().mean().item()
            if name in ("left", "top", "size"):
                total = total + functional.cross_entropy(SHARPNESS * scores, classes)
        return total, right


def size_of(labels: Tensor) -> Tensor:
    """0 for the shortest side a thing has, 1 for the longest: int64 [...], 0 where nothing is."""
    return (labels[..., 5] - labels[..., 3] - SIDES[0]).clamp(0, 1)


def inside(labels: Tensor) -> Tensor:
    """Which tokens lie in a thing: bool [..., 144]."""
    return labels[..., 0] != OUTSIDE


def _centred(rows: Tensor) -> Tensor:
    return rows - rows.mean(dim=0)


def _of_size(rows: Tensor) -> Tensor:
    scaled: Tensor = BOX * rows / rows.norm(dim=1).mean()
    return scaled


def _apart(rows: Tensor, others: Tensor) -> Tensor:
    """Rows without their mean and without their part in the span of others, scaled for boxes."""
    basis = torch.linalg.qr(others.T)[0]
    own = _centred(rows)
    return _of_size(own - own @ basis @ basis.T)


def _nearness(tokens: Tensor, rows: Tensor) -> Tensor:
    centred = _centred(rows)
    squares = centred.pow(2).sum(dim=1)
    return (tokens @ centred.T - squares / 2) / squares.mean()
