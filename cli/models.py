"""`tokenlens models`: what can be loaded, and by which name."""

import typer
from rich.table import Table

from .console import console


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("models", epilog="Example: tokenlens models")(models)


def models() -> None:
    """List the model families, the bundled models and the aliases of hub ids."""
    from tokenlens.models.adapters import support_table

    table = Table(title="Models", title_justify="left")
    rows = support_table()
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    console.print("Any hub id or local directory of these families works as --model too.")
