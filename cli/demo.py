"""`tokenlens demo`: all steps on the bundled model and scenes."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tokenlens.storage.invocation import running, shell_line

from .console import console, wrote
from .options import DEFAULT_DATA, DEFAULT_MODEL, Limit
from .profile import profile
from .report import report
from .run import run
from .select_layers import select_layers


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("demo", epilog="Example: tokenlens demo --out demo")(demo)


def demo(
    model: Annotated[str, typer.Option(help="A bundled model.")] = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("tokenlens-out/demo"),
    limit: Limit = 200,
) -> None:
    """Profile the bundled model, choose layers, run the schedule and write the report."""
    folders = {name: out / name for name in ("profile", "results", "report")}
    schedule = out / "out.json"
    steps: list[tuple[list[object], Callable[[], object]]] = [
        (
            ["profile", "--model", model, "--data", DEFAULT_DATA, "--out", folders["profile"]],
            lambda: profile(model=model, data=DEFAULT_DATA, out=folders["profile"]),
        ),
        (
            ["select-layers", folders["profile"], "--out", schedule],
            lambda: select_layers(folders["profile"], out=schedule),
        ),
        (
            ["run", "--schedule", schedule, "--limit", limit, "--out", folders["results"]],
            lambda: run(schedule=schedule, limit=limit, out=folders["results"]),
        ),
        (
            ["report", folders["profile"], folders["results"], "--out", folders["report"]],
            lambda: report([folders["profile"], folders["results"]], out=folders["report"]),
        ),
    ]
    commands = [["tokenlens", *map(str, words)] for words, _ in steps]
    for command, (_, step) in zip(commands, steps, strict=True):
        console.rule()
        console.print(f"$ {shell_line(command)}", style="cyan")
        with running(command):
            step()
    console.rule()
    console.print("The same, command by command:")
    for command in commands:
        console.print(f"  {shell_line(command)}", style="cyan")
    wrote("Open", (folders["report"] / "report.html").resolve().as_uri())
