"""Training loop of every stage: steps, log, checkpoints, and resuming."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

SAVE_EVERY = 100
LOG_EVERY = 20


class Stateful(Protocol):
    """Object that can be stored in a checkpoint: a model, an optimiser, a curriculum."""

    def state_dict(self) -> Any:
        """State for a checkpoint."""

    def load_state_dict(self, state: Any) -> Any:
        """Load the state of a checkpoint."""


def run_stage(
    name: str,
    folder: Path,
    steps: int,
    parts: Mapping[str, Stateful],
    step: Callable[[int], Mapping[str, float]],
) -> None:
    """Run `step(0)` to `step(steps - 1)`, from the last checkpoint in `folder` if there is one.

    Args:
        name: the stage's name; its checkpoint is `folder/name.pt`.
        folder: folder of checkpoints and of `log.txt`.
        steps: number of steps of the whole stage.
        parts: objects stored in a checkpoint, by name.
        step: does one update and returns figures for the log, averaged over LOG_EVERY steps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.pt"
    done = 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        done = saved["step"]
        for key, part in parts.items():
            part.load_state_dict(saved[key])
    recent: list[Mapping[str, float]] = []
    began = time.monotonic()
    for index in range(done, steps):
        recent.append(step(index))
        if (index + 1) % LOG_EVERY == 0 or index + 1 == steps:
            pace = (time.monotonic() - began) / (index + 1 - done)
            _log(folder, name, index + 1, steps, recent, pace)
            recent = []
        if (index + 1) % SAVE_EVERY == 0 or index + 1 == steps:
            _save(path, {"step": index + 1, **{k: p.state_dict() for k, p in parts.items()}})


def _save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all, so that a killed run can continue."""
    unfinished = path.with_suffix(".unfinished")
    torch.save(state, unfinished)
    unfinished.replace(path)


def _log(
    folder: Path,
    name: str,
    done: int,
    steps: int,
    recent: list[Mapping[str, float]],
    seconds_per_step: float,
) -> None:
    keys = {key: None for figures in recent for key in figures}
    means = {key: [figures[key] for figures in recent if key in figures] for key in keys}
    figures = " ".join(f"{key} {sum(v) / len(v):.3f}" for key, v in means.items())
    left = (steps - done) * seconds_per_step / 60
    line = f"{name} {done}/{steps}, {left:.1f} min left ({seconds_per_step:.2f} s/step): {figures}"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        log.write(line + "\n")
