"""Initial word embeddings, taken from the heads of the vision stage.

The heads' rows are directions of the visual tokens: "red", "circle", "K", and the four numbers of a
box. As initial embeddings of those words they make question and picture comparable. The output
projection is tied to the embeddings, so a copied visual token already gives the logits of the
answer.
"""

from __future__ import annotations

import torch
from torch import nn

from ..questions import thousandth
from ..scenes import COLOURS, GRID, LETTERS, SHAPES
from .family import INITIAL_STD
from .tokenizer import vocabulary
from .vision import Heads

CELLS = [thousandth(cells) for cells in range(GRID + 1)]
PIECES: dict[str, list[list[str]]] = {
    "colour": [[name] for name in COLOURS],
    "shape": [[name] for name in SHAPES],
    "letter": [[name] for name in LETTERS],
    "x0": [[f"({value},"] for value in CELLS],
    "y0": [[f"##{value}),("] for value in CELLS],
    "x1": [[f"##{value},"] for value in CELLS],
    "y1": [[f"##{value})"] for value in CELLS],
}
"""The vocabulary's pieces for every class of every head."""


@torch.no_grad()
def align_words(embeddings: nn.Embedding, heads: Heads) -> None:
    """Set the embeddings of the heads' words to the heads' rows, centred, of the usual length."""
    ids = vocabulary()
    length = INITIAL_STD * embeddings.embedding_dim**0.5
    for name, pieces in PIECES.items():
        rows = heads.head(name).weight * heads.norm.weight
        rows = nn.functional.normalize(rows - rows.mean(dim=0), dim=-1) * length
        for row, spellings in zip(rows, pieces, strict=True):
            for piece in spellings:
                embeddings.weight[ids[piece]] = row
