"""`tokenlens models`: what can be loaded, and by which name."""

import typer
from rich.table import Table
from rich.text import Text

from .console import console


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("models", epilog="Example: tokenlens models")(models)


def models() -> None:
    """List the model families, the bundled models and the aliases of hub ids."""
    from tokenlens.models.adapters import support_table

    table = Table("--model", "loads", title="What --model takes", title_justify="left", box=None)
    for row in support_table():
        commands = "all commands" if row["visual layout"] == "yes" else "probe and engine in Python"
        table.add_row(Text(f"\n{row['family']}", "bold"), Text(f"\n{commands}", "dim"))
        if row["bundled"] != "-":
            table.add_row(row["bundled"], "bundled with tokenlens")
        for alias, hub_id in zip(
            row["alias"].splitlines(), row["hub id"].splitlines(), strict=True
        ):
            table.add_row(alias, hub_id)
    console.print(table)
    console.print("\nAny hub id or local directory of these families works as --model too.")
