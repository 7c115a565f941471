"""`tokenlens report`: one offline page of figures, tables and pictures."""

from pathlib import Path
from typing import Annotated

import typer

from .console import console, wrote
from .options import Out


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("report", epilog="Example: tokenlens report --pictures 8")(report)


def report(
    directories: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Profile and result directories; default: the newest under ./tokenlens-out."
        ),
    ] = None,
    schedule: Annotated[
        Path | None,
        typer.Option(help="Schedule file whose layers are marked; default: the results' own."),
    ] = None,
    out: Out = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="How many pictures to show every layer on.")
    ] = 6,
) -> None:
    """Write an HTML report that opens without a network, and each figure as PNG and SVG."""
    from tokenlens.reports.report import report as write_report
    from tokenlens.schedule import Schedule

    marked = Schedule.load(schedule) if schedule else None
    files = write_report(directories or (), out=out, schedule=marked, pictures=pictures)
    console.print(f"{len(files.figures)} figures as PNG and SVG in {files.html.parent / 'figures'}")
    wrote("Report", files.html)
