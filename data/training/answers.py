"""The decoder's stages: answering questions about pictures, from few words to the full prompt."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import Qwen2VLForConditionalGeneration

from ..questions import ask
from ..scenes import COUNTS
from .loop import run_stage
from .model import decoder, tower
from .optimisers import Optimisers, ramp
from .packing import Packed, Packer, packed_logits
from .pictures import draw, pixel_inputs
from .tokenizer import make_tokenizer

PICTURES = 8
TASKS = {"localisation": 3, "text": 3, "attribute": 3, "existence": 2, "count": 1}
"""Questions asked about every picture."""
END = "end"


@dataclass(frozen=True)
class Stage:
    """One stage: its depth, its length, its peak rates, and how the questions are put.

    `tower_rate` is the tower's share of the rates, 0 for a frozen tower. `short` is the share of
    questions put in few words when the stage begins; it falls to zero over `fade` steps. With
    `climb` the stage begins at pictures of one to three things and goes on as the answers improve.
    """

    name: str
    layers: int
    steps: int
    muon_rate: float
    adamw_rate: float
    tower_rate: float = 0.0
    short: float = 0.0
    fade: int = 0
    climb: bool = False
    hold: float = 0.8
    floor: float = 0.3


class Curriculum:
    """How many things a picture has and how many questions come in few words.

    One more thing and a tenth fewer short questions whenever text and attribute answers average
    above `ENOUGH` over `WINDOW` steps.
    """

    ENOUGH = 0.85
    WINDOW = 100

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._top = COUNTS[1] - 3
        self.level = 0 if stage.climb else self._top
        self._recent: deque[float] = deque(maxlen=self.WINDOW)

    def counts(self) -> tuple[int, int]:
        """Fewest and most things of a picture now."""
        return min(COUNTS[0], 1 + self.level), 3 + self.level

    def short(self, step: int) -> float:
        """Share of short questions now."""
        if self._stage.climb:
            return self._stage.short - 0.1 * self.level
        return self._stage.short * max(0.0, 1 - step / max(1, self._stage.fade))

    def note(self, right: dict[str, float]) -> None:
        """Take in the figures of a step."""
        self._recent.append((right["text"] + right["attribute"]) / 2)
        full = len(self._recent) == self.WINDOW
        if full and self.level < self._top and sum(self._recent) / self.WINDOW > self.ENOUGH:
            self.level += 1
            self._recent.clear()

    def state_dict(self) -> dict[str, Any]:
        """The state, for a checkpoint."""
        return {"level": self.level, "recent": list(self._recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of a checkpoint."""
        self.level = state["level"]
        self._recent = deque(state["recent"], maxlen=self.WINDOW)


@dataclass(frozen=True)
class Batch:
    """Pictures, their packed questions, and the task of every answer token (END for the last)."""

    pixels: dict[str, torch.Tensor]
    packed: Packed
    tasks: list[str]


def make_batch(
    packer: Packer, stage: str, step: int, counts: tuple[int, int], short: float
) -> Batch:
    """The batch of a step: the same arguments give the same batch."""
    images, rows, tasks = [], [], []
    for index in range(step * PICTURES, (step + 1) * PICTURES):
        scene, image, rng = draw(stage, index, counts)
        segments = []
        for task, times in TASKS.items():
            for _ in range(times):
                question = ask(scene, task, rng)
                if question is None:
                    continue
                brief = rng.random() < short
                text = question.short if brief else question.text
                ids, labels = packer.segment(text, question.answer, chat=not brief)
                segments.append((ids, labels))
                tasks += [task] * (len(packer.tokens(question.answer))) + [END]
        images.append(image)
        rows.append(segments)
    return Batch(pixel_inputs(images), packer.pack(rows), tasks)


def train_answers(model: Qwen2VLForConditionalGeneration, stage: Stage, folder: Path) -> None:
    """Run one stage on the model in place; what was done before in `folder` is taken up."""
    device = model.device
    packer = Packer(make_tokenizer())
    curriculum = Curriculum(stage)
    tower(model).requires_grad_(stage.tower_rate > 0)
    rates = {"muon_rate": stage.muon_rate, "adamw_rate": stage.adamw_rate}
    parts = {"decoder": Optimisers(decoder(model).named_parameters(), **rates)}
    if stage.tower_rate > 0:
        slow = {key: rate * stage.tower_rate for key, rate in rates.items()}
        parts["tower"] = Optimisers(tower(model).named_parameters(), **slow)

    def step(index: int) -> dict[str, float]:
        short = curriculum.short(index)
        batch = make_batch(packer, stage.name, index, curriculum.counts(), short)
        pixels = {key: value.to(device) for key, value in batch.pixels.items()}
        visual = tower(model)(**pixels).pooler_output
        logits, labels = packed_logits(model, batch.packed.to(device), visual)
        loss = functional.cross_entropy(logits, labels)
        loss.backward()
        scale = ramp(index, stage.steps, warm=50, hold=stage.hold, floor=stage.floor)
        for optimisers in parts.values():
            optimisers.step(scale)
        right = _right_by_task(logits.argmax(-1) == labels, batch.tasks)
        curriculum.note(right)
        return {"loss": loss.item(), **right, "level": curriculum.level, "short": short}

    run_stage(
        stage.name,
        folder,
        stage.steps,
        {"model": model, "curriculum": curriculum, **parts},
        step,
    )


def _right_by_task(right: torch.Tensor, tasks: list[str]) -> dict[str, float]:
    """Share of answer tokens predicted right, per task; ends of answers left out."""
    found: dict[str, list[float]] = {}
    for task, one in zip(tasks, right.float().tolist(), strict=True):
        if task != END:
            found.setdefault(task, []).append(one)
    return {task: sum(ones) / len(ones) for task, ones in found.items()}
