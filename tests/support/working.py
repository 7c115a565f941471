"""Work for workers: a "model" that is a number, and what they do with it."""

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tokenlens.errors import ModelError, SampleError


def load(number: int = 10) -> int:
    """A model."""
    return number


def broken() -> int:
    """A model that is not there."""
    raise ModelError("no model 'x'; give another")


def start(model: Callable[[], int], folder: Path | None = None) -> Callable[[int], Iterator[int]]:
    """The work: two results of each task, or a fault."""
    return partial(results, model(), folder)


def results(model: int, folder: Path | None, task: int) -> Iterator[int]:
    """The task, and the task times the model."""
    if task == -1:
        raise SampleError("sample '-1': expected a positive number")
    if task == -2:
        raise ZeroDivisionError("by hand")
    if task == -3 and folder and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    yield task
    yield model * task
