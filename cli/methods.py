"""`tokenlens methods`: the ways to prune that come as presets."""

import typer
from rich.table import Table
from rich.text import Text

from .console import console


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("methods", epilog="Example: tokenlens methods")(methods)


def methods() -> None:
    """List the pruning methods, what each does, where it comes from and how it deviates."""
    from tokenlens.pruning.methods import find_method
    from tokenlens.registry import METHODS

    table = Table("method", "what it does", title="Pruning methods", title_justify="left", box=None)
    for name in METHODS:
        method = find_method(name)
        table.add_row(Text(f"\n{name}", "bold"), Text(f"\n{method.summary}"))
        table.add_row("", Text(method.source, "dim"))
    console.print(table)
    console.print(
        "\nIn Python, Schedule.preset(name, model, budget='33%') makes the schedule of one; save "
        "it for `tokenlens run --schedule`."
    )
