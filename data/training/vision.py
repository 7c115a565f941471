"""First stage: the vision tower alone, with linear heads.

Heads predict the colour, shape, letter and box of a thing from every visual token at least half
inside it. A decoder trained with an untrained tower ignores it for a very long time.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from ..scenes import CELL, COLOURS, GRID, LETTERS, SHAPES, Scene, Thing
from .family import PATCH, SIDE, VISUAL_TOKENS, WIDTH, Family
from .loop import run_stage
from .optimisers import Optimisers, ramp
from .pictures import draw

PICTURES = 32
CLASSES = {
    "colour": len(COLOURS),
    "shape": len(SHAPES),
    "letter": len(LETTERS),
    **dict.fromkeys(("x0", "y0", "x1", "y1"), GRID + 1),
}
OUTSIDE = -100


class Heads(nn.Module):
    """One linear head per property, on the tower's output as the decoder will see it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleDict({name: nn.Linear(width, n) for name, n in CLASSES.items()})

    def head(self, name: str) -> nn.Linear:
        """The head of one property."""
        return cast(nn.Linear, self.heads[name])

    def forward(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        """Scores per property: tokens [n, width] to {name: [n, classes]}."""
        normed = self.norm(tokens)
        return {name: head(normed) for name, head in self.heads.items()}


def coverage(thing: Thing) -> torch.Tensor:
    """The share of every visual token that lies inside a thing's box: float32 [144]."""
    x0, y0, x1, y1 = thing.box
    inside = torch.zeros(GRID, GRID)
    inside[y0:y1, x0:x1] = 1
    per_patch = PATCH // CELL
    return inside.view(SIDE, per_patch, SIDE, per_patch).mean(dim=(1, 3)).flatten()


def token_labels(scene: Scene) -> torch.Tensor:
    """Labels int64 [144, properties] in the order of CLASSES; OUTSIDE where no thing is."""
    labels = torch.full((VISUAL_TOKENS, len(CLASSES)), OUTSIDE)
    for thing in scene.things:
        labels[coverage(thing) >= 0.5] = torch.tensor(
            [
                list(COLOURS).index(thing.colour),
                SHAPES.index(thing.shape),
                LETTERS.index(thing.letter),
                *thing.box,
            ]
        )
    return labels


def train_tower(family: Family, model: PreTrainedModel, steps: int, folder: Path) -> Heads:
    """Train the tower in place, or continue from the checkpoint in `folder`. Returns the heads."""
    tower = family.tower(model)
    heads = Heads(WIDTH).to(model.device)
    both = nn.ModuleDict({"tower": tower, "embed_heads": heads})
    optimisers = Optimisers(both.named_parameters(), muon_rate=1e-2, adamw_rate=3e-3)

    def step(index: int) -> dict[str, float]:
        drawn = [draw("vision", index * PICTURES + i) for i in range(PICTURES)]
        labels = torch.cat([token_labels(scene) for scene, _, _ in drawn]).to(model.device)
        pixels = family.pixels([image for _, image, _ in drawn])
        tokens = family.see(model, {key: value.to(model.device) for key, value in pixels.items()})
        inside = labels[:, 0] != OUTSIDE
        scores, labels = heads(tokens[inside]), labels[inside]
        loss = torch.stack(
            [functional.cross_entropy(s, labels[:, i]) for i, s in enumerate(scores.values())]
        ).sum()
        loss.backward()
        optimisers.step(ramp(index, steps, warm=20, hold=0.5, floor=0.05))
        return {"loss": loss.item()} | {
            name: (score.argmax(-1) == labels[:, i]).float().mean().item()
            for i, (name, score) in enumerate(scores.items())
        }

    run_stage("vision", folder, steps, {"both": both, "optimisers": optimisers}, step)
    return heads
