"""`tokenlens demo`: all steps on the bundled model and scenes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from tokenlens.storage.invocation import running, shell_line

from .console import console, rule, wrote
from .dry_run import DryRun
from .options import DEFAULT_DATA, DEFAULT_MODEL, Limit
from .output import collecting, current, results
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
    dry_run: DryRun = False,
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
    results(commands=[shell_line(command) for command in commands])
    if not dry_run:
        _go(commands, [step for _, step in steps])
        console.print("The same, command by command:")
    for command in commands:
        console.print(f"  {shell_line(command)}", style="cyan")
    if not dry_run:
        page = folders["report"] / "report.html"
        wrote("Open", page, shown=page.resolve().as_uri())


def _go(commands: Sequence[Sequence[str]], steps: Sequence[Callable[[], object]]) -> None:
    """Run the steps as their commands would; each has an object of its own."""
    found = []
    for command, step in zip(commands, steps, strict=True):
        rule()
        console.print(f"$ {shell_line(command)}", style="cyan")
        with running(command), collecting(command[1]) as output:
            step()
        found.append(output.parts())
        current().written += output.written
    rule()
    results(steps=found)
