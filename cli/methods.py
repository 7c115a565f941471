"""`tokenlens methods`: the pruning methods that are presets."""

from collections.abc import Callable
from functools import partial

import typer
from rich.text import Text

from tokenlens.errors import ScheduleError

from .console import Table, console
from .output import results


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("methods", epilog="Example: tokenlens methods")(methods)


def methods() -> None:
    """List the pruning methods and where they come from, and what else a schedule may name.

    Those of other packages are listed as well; one that cannot be loaded says why.
    """
    from tokenlens.registry import DISPOSALS, IMPORTANCES, METHODS, SCORERS

    methods = [
        {
            "name": name,
            "summary": _words(partial(METHODS.summary, name)),
            "source": _words(partial(_source, name)),
        }
        for name in METHODS
    ]
    table = Table("method", "what it does", title="Pruning methods", title_justify="left", box=None)
    for row in methods:
        table.add_row(Text(f"\n{row['name']}", "bold"), Text(f"\n{row['summary']}"))
        source = row["source"] if row["source"] != row["summary"] else ""
        table.add_row("", Text(source, "dim"))
    console.print(table)
    results(methods=methods)
    for key, title, registry in (
        ("scorers", "What importance is read from (scorer.query)", SCORERS),
        ("disposals", "What becomes of the rest (disposal)", DISPOSALS),
        (
            "importances",
            "What importance is (profile --importance, scorer.importance)",
            IMPORTANCES,
        ),
    ):
        table = Table(title=title, title_justify="left", box=None, show_header=False)
        named = {name: _words(partial(registry.summary, name)) for name in registry}
        for name, words in named.items():
            table.add_row(Text(name, "bold"), Text(words))
        console.print()
        console.print(table)
        results(**{key: [{"name": name, "summary": words} for name, words in named.items()]})
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
