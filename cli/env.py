"""`tokenlens env`: versions and machine, for a bug report."""

import typer

from .console import console
from .output import results


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("env", epilog="Example: tokenlens env")(env)


def env() -> None:
    """Print the versions and the machine, for bug reports."""
    from tokenlens.storage.versions import extras, machine, surroundings, versions

    found = {**versions(), **extras(), **machine(), **surroundings()}
    results(**found)
    for name, value in found.items():
        console.print(f"{name}: {value}")
