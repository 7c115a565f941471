"""`tokenlens methods`: the ways to prune that come as presets."""

from collections.abc import Iterator
from typing import Any

import typer
from rich.text import Text

from tokenlens.errors import ScheduleError
from tokenlens.registry import Registry

from .console import Table, console


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("methods", epilog="Example: tokenlens methods")(methods)


def methods() -> None:
    """List the pruning methods and where they come from, and what else a schedule may name.

    Those of other packages are listed as well; one that cannot be loaded says why.
    """
    from tokenlens.registry import DISPOSALS, METHODS, SCORERS

    table = Table("method", "what it does", title="Pruning methods", title_justify="left", box=None)
    for name, method in _loaded(METHODS):
        table.add_row(Text(f"\n{name}", "bold"), Text("\n" + _words(method)))
        table.add_row("", Text(getattr(method, "source", ""), "dim"))
    console.print(table)
    for title, registry in (
        ("What importance is read from (scorer.query)", SCORERS),
        ("What becomes of the rest (disposal)", DISPOSALS),
    ):
        table = Table(title=title, title_justify="left", box=None, show_header=False)
        for name, found in _loaded(registry):
            table.add_row(Text(name, "bold"), Text(_words(found)))
        console.print()
        console.print(table)
    console.print()
    console.print(
        "In Python, Schedule.preset(name, model, budget='33%') makes the schedule of one; save "
        "it for `tokenlens run --schedule`."
    )


def _loaded(registry: Registry) -> Iterator[tuple[str, Any]]:
    """Every name with what it stands for, or with the error that loading it ends in."""
    for name in registry:
        try:
            yield name, registry[name]
        except ScheduleError as error:
            yield name, error


def _words(found: Any) -> str:
    return str(found) if isinstance(found, ScheduleError) else str(found.summary)
