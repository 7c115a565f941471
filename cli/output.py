"""What a command tells scripts: one JSON object, collected while it prints for people."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, is_dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenlens.storage.output_paths import Runs

SCHEMA = 1
"""Version of the object; it rises where a documented key changes its meaning or goes."""


@dataclass
class Output:
    """The parts of the object, in the order of docs/scripts.md.

    Attributes:
        command: the command's name; None before it is known.
        results: what the command found, by names that are its own.
        written: what was written: `{"what": …, "path": …}` each.
        cautions: sentences about the figures.
        warnings: warnings of the library.
        next: the command line that goes on from here, if any.
        top: results that stand beside `results` as well.
    """

    command: str | None = None
    results: dict[str, Any] = field(default_factory=dict)
    written: list[dict[str, str]] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    next: str | None = None
    top: dict[str, Any] = field(default_factory=dict)

    def parts(self) -> dict[str, Any]:
        """The parts as values of JSON."""
        names = ("command", "results", "written", "cautions", "warnings", "next")
        return {name: plain(getattr(self, name)) for name in names}


_CURRENT: ContextVar[Output] = ContextVar("output")


@contextmanager
def collecting(command: str | None = None) -> Iterator[Output]:
    """Collect in an `Output` of its own what is printed in the context."""
    output = Output(command)
    token = _CURRENT.set(output)
    try:
        yield output
    finally:
        _CURRENT.reset(token)


def current() -> Output:
    """The output that is being collected; one that nobody reads in a Python program."""
    return _CURRENT.get(None) or Output()


def results(**named: Any) -> None:
    """Add results of the running command, each by its name in the object.

    A value is of JSON, or an array, a table (then a list of its rows), a data class, a path.
    """
    current().results.update(named)


def run_folders(runs: "Runs") -> dict[str, Path | None]:
    """The directories that a report or figures show, by their kinds."""
    kinds = ("profile", "results", "information", "tuning")
    return {kind: getattr(runs, kind) for kind in kinds}


def as_text(output: Output, error: tuple[str, str] | None = None) -> str:
    """The object; `error` is the type and the message of the error that ended the command.

    All characters outside of ASCII are escaped, so that no name reaches a terminal as it is.
    """
    from tokenlens import __version__

    head = {"tokenlens": __version__, "schema": SCHEMA, **output.parts(), **plain(output.top)}
    if error is not None:
        head["error"] = dict(zip(("type", "message"), error, strict=True))
    return json.dumps(head, indent=2, allow_nan=False)


def plain(value: Any) -> Any:
    """A value as JSON has it: null for what is no number, a list of objects for a table.

    >>> plain({"a": (1, float("nan"), Path("b"))})
    {'a': [1, None, 'b']}
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "as_json"):
        return plain(value.as_json())
    if is_dataclass(value):
        return plain(vars(value))
    if hasattr(value, "to_dict"):
        return plain(value.to_dict("records"))
    return plain(value.tolist())
