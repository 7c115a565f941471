"""`tokenlens models`: the models that can be loaded, and their names."""

import typer
from rich.text import Text

from .console import Table, console
from .output import results


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("models", epilog="Example: tokenlens models")(models)


def models() -> None:
    """List the model families, how they lay pictures out, and the aliases of hub ids."""
    from tokenlens.models.families import support_table

    results(families=support_table())
    table = Table("--model", "loads", title="What --model takes", title_justify="left", box=None)
    for row in support_table():
        table.add_row(Text(f"\n{row['family']}", "bold"), Text(f"\n{row['tokens']}", "dim"))
        if row["bundled"] != "-":
            table.add_row(row["bundled"], "bundled with tokenlens")
        for name in row["composed"].splitlines():
            table.add_row(name, f"put together by `tokenlens setup {name}`")
        for alias, hub_id in zip(
            row["alias"].splitlines(), row["hub id"].splitlines(), strict=True
        ):
            table.add_row(alias, hub_id)
    console.print(table)
    console.print()
    console.print(
        "Any hub id or local directory of these families works as --model too. With other "
        "families profile and run work; choosing layers by regions does not, and there are no maps."
    )
