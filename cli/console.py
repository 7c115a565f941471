"""Output of the commands: tables and closing lines on standard output."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isnan
from typing import Any

from rich import table
from rich.console import Console
from rich.text import Text

from tokenlens.storage.invocation import shell_line
from tokenlens.wording.printable import printable

from .output import as_text, current


@dataclass
class Mode:
    """How commands print.

    Attributes:
        json: one object on standard output, and no text.
        quiet: neither progress, nor what begins, nor what comes next.
        verbose: also settings, messages of libraries and the time taken.
        typed: names of the options that are on the command line.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    typed: frozenset[str] = field(default_factory=frozenset)


mode = Mode()


class _Plain(Console):
    """Prints text without markup and escapes control characters, which names may contain."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; a string is one line, and a line break in it is a name's, so it is escaped."""
        if not mode.json:
            super().print(*map(_safe, objects), **options)


class Table(table.Table):
    """A table whose strings are names and figures: control characters in them are escaped."""

    def __init__(self, *headings: Any, title: str | None = None, **options: Any) -> None:
        super().__init__(*map(_safe, headings), title=_safe(title), **options)

    def add_column(self, header: Any = "", footer: Any = "", **options: Any) -> None:
        """Add a column."""
        super().add_column(_safe(header), _safe(footer), **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row; a `Text` is taken as it is."""
        super().add_row(*map(_safe, cells), **options)


console = _Plain(highlight=False, soft_wrap=True, markup=False)


def announce(text: str) -> None:
    """Print on standard error what begins now, as progress is printed."""
    if not mode.quiet:
        print(printable(text), file=sys.stderr)


def rule() -> None:
    """Print a line across the terminal."""
    if not mode.json:
        console.rule()


def lines(text: str) -> None:
    """Print a text of several lines, such as a Markdown table."""
    for line in text.split("\n"):
        console.print(line)


def wrote(what: str, *where: object, shown: object = None) -> None:
    """Print what was written and where; `shown` stands for a long list of paths."""
    current().written += [{"what": what, "path": str(path)} for path in where]
    text = printable(", ".join(map(str, where)) if shown is None else str(shown))
    console.print(Text.assemble(f"{printable(what)}: ", (text, "bold")))


def next_command(*words: object) -> None:
    """Print the next command from the words of its line; words that are None are left out."""
    line = shell_line(["tokenlens", *(word for word in words if word is not None)])
    current().next = line
    if not mode.quiet:
        console.print(Text.assemble("Next: ", (line, "cyan")))


def cautions(sentences: Iterable[str]) -> None:
    """Print cautions about the figures."""
    for sentence in sentences:
        current().cautions.append(sentence)
        console.print(f"Caution: {sentence}")


def print_object(error: tuple[str, str] | None = None) -> None:
    """Print the object where JSON is asked for; `error` is the type and message of an error."""
    if mode.json:
        print(as_text(current(), error))


def percent(share: float) -> str:
    """A share as a percentage; a dash where it is not defined (no ground truth)."""
    return "-" if isnan(share) else f"{share:.1%}"


def duration(seconds: float) -> str:
    """Seconds as text with a unit.

    >>> duration(8.4), duration(200), duration(9000)
    ('8 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _safe(item: Any) -> Any:
    return printable(item) if isinstance(item, str) else item
