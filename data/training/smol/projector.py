"""First stage: tower and projector, trained so that visual tokens are near their target words.

The decoder takes no part in it. The projector's second layer is fitted by least squares on random
features of the trained tower of `tiny-llava`; then tower and projector train together.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration

from tokenlens.models.composed import parts_folder

from ..loop import run_stage
from ..optimisers import ramp
from ..pictures import draw
from ..vision import token_labels
from .codes import TokenCodes, inside
from .family import SmolLlava

PICTURES = 24
FIT_ON = 640
STEPS = 850
TOWER_RATE, PROJECTOR_RATE = 8e-4, 1e-3
THINGS_WEIGHT = 3.0
"""Weight of a token inside a thing, of an empty one 1."""
BOX_WEIGHT = 3e-4
"""Of the cross-entropy of a box's words, beside the squared error of the whole token."""


class Vision:
    """Tower and projector of a model, the tower as `tiny-llava` has it, and pictures for them."""

    def __init__(self, family: SmolLlava, model: LlavaForConditionalGeneration) -> None:
        self.family = family
        trained = AutoModelForImageTextToText.from_pretrained(
            parts_folder("tiny-llava"), dtype=torch.float32
        )
        self._model = model
        self.tower, self.projector = model.model.vision_tower, model.model.multi_modal_projector
        self.tower.load_state_dict(trained.model.vision_tower.state_dict())

    def pictures(self, stage: str, indices: range) -> tuple[Tensor, Tensor]:
        """Pixels [n, 3, 168, 168] and labels [n, 144, 7] of fresh pictures."""
        drawn = [draw(stage, index) for index in indices]
        pixels = self.family.pixels([image for _, image, _ in drawn])["pixel_values"]
        return pixels, torch.stack([token_labels(scene) for scene, _, _ in drawn])

    def features(self, pixels: Tensor) -> Tensor:
        """What the projector takes: [n, 144, 128]."""
        states: Tensor = self.tower(pixels, output_hidden_states=True).hidden_states[-2]
        return states[:, 1:]

    def freeze(self) -> None:
        """Switch off gradients of tower and projector."""
        self.tower.requires_grad_(False)
        self.projector.requires_grad_(False)

    def see(self, pixels: Tensor) -> Tensor:
        """Visual tokens [n, 144, width]."""
        tokens: Tensor = self.projector(self.features(pixels))
        return tokens


@torch.no_grad()
def fit_projector(vision: Vision, codes: TokenCodes, ridge: float = 1e-5) -> None:
    """Random first layer on standardised features, second layer by least squares."""
    pool = [vision.pictures("smol-fit", range(i, i + 32)) for i in range(0, FIT_ON, 32)]
    features = torch.cat([vision.features(pixels).flatten(0, 1) for pixels, _ in pool])
    wanted = torch.cat([codes.tokens(labels).flatten(0, 1) for _, labels in pool])
    first, second = vision.projector.linear_1, vision.projector.linear_2
    mean, deviation = features.mean(dim=0), features.std(dim=0)
    generator = torch.Generator().manual_seed(0)
    size = first.weight.shape
    first.weight.copy_(torch.randn(size, generator=generator) / size[1] ** 0.5 / deviation)
    first.bias.copy_(0.5 * torch.randn(size[0], generator=generator) - first.weight @ mean)
    hidden = vision.projector.act(first(features))
    hidden = torch.cat([hidden, torch.ones(len(hidden), 1)], dim=1)
    gram = hidden.T @ hidden / len(hidden) + ridge * torch.eye(hidden.shape[1])
    found = torch.linalg.solve(gram, hidden.T @ wanted / len(hidden))
    second.weight.copy_(found[:-1].T)
    second.bias.copy_(found[-1])


def train_vision(vision: Vision, codes: TokenCodes, folder: Path, steps: int = STEPS) -> None:
    """Fit, then train in place; continues from the checkpoint in `folder`, if any."""
    if not (folder / "smol-vision.pt").exists():
        fit_projector(vision, codes)
    both = nn.ModuleDict({"tower": vision.tower, "projector": vision.projector})
    groups = [
        {"params": list(vision.tower.parameters()), "lr": TOWER_RATE, "full": TOWER_RATE},
        {
            "params": list(vision.projector.parameters()),
            "lr": PROJECTOR_RATE,
            "full": PROJECTOR_RATE,
        },
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0)

    def step(index: int) -> dict[str, float]:
        start = index * PICTURES
        pixels, labels = vision.pictures("smol-vision", range(start, start + PICTURES))
        tokens = vision.see(pixels)
        loss, figures = vision_loss(tokens, labels, codes)
        loss.backward()
        nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = group["full"] * ramp(index, steps, warm=30, hold=0.1, floor=0.02)
        optimiser.step()
        optimiser.zero_grad()
        return figures

    run_stage("smol-vision", folder, steps, {"both": both, "optimiser": optimiser}, step)


def vision_loss(
    tokens: Tensor, labels: Tensor, codes: TokenCodes
) -> tuple[Tensor, dict[str, float]]:
    """The loss, and figures for the log: the mean error, shares of tokens in things read right."""
    things = inside(labels)
    error = (tokens - codes.tokens(labels)).pow(2).mean(dim=-1)
    weighted = (error * (1 + (THINGS_WEIGHT - 1) * things.float())).mean()
    boxes, right = codes.loss(tokens[things], labels[things])
    return weighted + BOX_WEIGHT * boxes, {"error": error.mean().item(), **right}
