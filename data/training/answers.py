"""The decoder's stages: answering questions about pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from ..questions import ask
from .attention_supervision import AttentionTargets, mask_images
from .family import Family
from .loop import run_stage
from .optimisers import Optimisers, ramp
from .packing import Packed, Packer, packed_answers
from .pictures import draw

PICTURES = 8
TASKS = {
    "localisation": 2,
    "text": 2,
    "attribute": 3,
    "existence": 2,
    "deep-localisation": 2,
    "deep-text": 2,
    "deep-attribute": 2,
    "deep-existence": 2,
}
"""Questions asked about every picture."""
END = "end"


@dataclass(frozen=True)
class Stage:
    """One stage: its depth, its length, its peak rates, and how its attention is supervised.

    At layer `first` (from 1) the answering tokens are trained to attend to a question's first
    thing, at layer `second` to all its things. The attention losses are added to the answers' loss
    with the factor `attention_weight`. A share `blind` of the pictures is hidden before layer
    `first`. The tower is
    frozen.
    """

    name: str
    layers: int
    steps: int
    muon_rate: float
    adamw_rate: float
    first: int
    second: int
    attention_weight: float = 0.5
    blind: float = 0.75
    hold: float = 0.5
    floor: float = 0.05


@dataclass(frozen=True)
class Batch:
    """The questions about some pictures.

    pixels: input of the tower.
    packed: the questions with their answers.
    targets: visual tokens that the answering tokens should attend to.
    blind: bool [pictures], those that are hidden from the first layers.
    tasks: the task of every answering token, END for the one that ends the answer.
    """

    pixels: dict[str, torch.Tensor]
    packed: Packed
    targets: AttentionTargets
    blind: torch.Tensor
    tasks: list[str]


def make_batch(family: Family, packer: Packer, stage: Stage, step: int) -> Batch:
    """The batch of a step: the same arguments give the same batch."""
    images, rows, targets, blind, tasks = [], [], [], [], []
    for index in range(step * PICTURES, (step + 1) * PICTURES):
        scene, image, rng = draw(stage.name, index)
        segments = []
        for task, times in TASKS.items():
            for _ in range(times):
                if question := ask(scene, task, rng):
                    segments.append(packer.segment(question.text, question.answer))
                    spoken = len(packer.tokens(question.answer))
                    tasks += [task] * spoken + [END]
                    targets.append(AttentionTargets.of(question, spoken + 1))
        images.append(image)
        rows.append(segments)
        blind.append(rng.random() < stage.blind)
    pixels, packed = family.pixels(images), packer.pack(rows)
    return Batch(pixels, packed, AttentionTargets.join(targets), torch.tensor(blind), tasks)


def train_answers(family: Family, model: PreTrainedModel, stage: Stage, folder: Path) -> None:
    """Run one stage on the model in place; continues from the checkpoint in `folder`, if any."""
    device = model.device
    packer = Packer(family)
    decoder = family.decoder(model)
    family.tower(model).requires_grad_(False)
    optimisers = Optimisers(
        decoder.named_parameters(), muon_rate=stage.muon_rate, adamw_rate=stage.adamw_rate
    )

    def step(index: int) -> dict[str, float]:
        batch = make_batch(family, packer, stage, index)
        packed, targets = batch.packed.to(device), batch.targets.to(device)
        with torch.no_grad():
            visual = family.see(model, {key: x.to(device) for key, x in batch.pixels.items()})
        with mask_images(decoder, packed, batch.blind.to(device), stage.first):
            answers = packed_answers(family, model, packed, visual)
        losses = functional.cross_entropy(answers.logits, answers.labels, reduction="none")
        loss = (losses * targets.weight).sum() / targets.weight.sum()
        first = targets.first_attention_loss(answers.attention[stage.first - 1])
        second = targets.all_attention_loss(answers.attention[stage.second - 1])
        (loss + stage.attention_weight * (first + second)).backward()
        optimisers.step(ramp(index, stage.steps, warm=50, hold=stage.hold, floor=stage.floor))
        right = _right_by_task(answers.logits.argmax(-1) == answers.labels, batch.tasks)
        return {"loss": loss.item(), "first": first.item(), "second": second.item(), **right}

    run_stage(stage.name, folder, stage.steps, {"model": model, "optimisers": optimisers}, step)


def _right_by_task(right: torch.Tensor, tasks: list[str]) -> dict[str, float]:
    """Share of answer tokens predicted right, per task; ends of answers left out."""
    found: dict[str, list[float]] = {}
    for task, one in zip(tasks, right.float().tolist(), strict=True):
        if task != END:
            found.setdefault(task, []).append(one)
    return {task: sum(ones) / len(ones) for task, ones in found.items()}
