"""`tokenlens methods`: the pruning methods that are presets."""

from collections.abc import Callable
from functools import partial

import typer
from rich.text import Text

from tokenlens.errors import ScheduleError

from .console import Table, console


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("methods", epilog="Example: tokenlens methods")(methods)


def methods() -> None:
    """List the pruning methods and where they come from, and what else a schedule may name.

    Those of other packages are listed as well; one that cannot be loaded says why.
    """
    from tokenlens.registry import DISPOSALS, IMPORTANCES, METHODS, SCORERS

    table = Table("method", "what it does", title="Pruning methods", title_justify="left", box=None)
    for name in METHODS:
        words = _words(partial(METHODS.summary, name))
        source = _words(partial(_source, name))
        table.add_row(Text(f"\n{name}", "bold"), Text(f"\n{words}"))
        table.add_row("", Text("" if source == words else source, "dim"))
    console.print(table)
    for title, registry in (
        ("What importance is read from (scorer.query)", SCORERS),
        ("What becomes of the rest (disposal)", DISPOSALS),
        ("What importance is (profile --importance, scorer.importance)", IMPORTANCES),
    ):
        table = Table(title=title, title_justify="left", box=None, show_header=False)
        for name in registry:
            table.add_row(Text(name, "bold"), Text(_words(partial(registry.summary, name))))
        console.print()
        console.print(table)
    console.print()
    console.print(
        "In Python, Schedule.preset(name, model, budget='33%') makes the schedule of one; save "
        "it for `tokenlens run --schedule`."
    )


def _source(name: str) -> str:
    from tokenlens.registry import METHODS

    return str(METHODS[name].source)


def _words(read: Callable[[], str]) -> str:
    """The text from `read`, or the reason of its failure: another package's entry may be broken."""
    try:
        return read()
    except ScheduleError as error:
        return str(error)
