"""Progress with an ETA for long work, on standard error so that output can be piped."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_HIDDEN: ContextVar[bool] = ContextVar("hidden", default=False)


@contextmanager
def hidden_progress() -> Iterator[None]:
    """Show no bar inside the context, whatever is asked for."""
    token = _HIDDEN.set(True)
    try:
        yield
    finally:
        _HIDDEN.reset(token)


class Advance(Protocol):
    """Callback that `progress` yields: call it with the number of items just finished."""

    def __call__(self, items: int = 1) -> None:
        """Count `items` more as done."""


@contextmanager
def progress(description: str, total: int, done: int = 0, show: bool = True) -> Iterator[Advance]:
    """Show a bar for `total` items, of which `done` were finished by an earlier run.

    The ETA is estimated from the items of this run only. With `show=False` nothing is printed.
    """
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not show or _HIDDEN.get(),
    )
    with bar:
        task = bar.add_task(description, total=total, completed=done)

        def advance(items: int = 1) -> None:
            bar.advance(task, items)

        yield advance
