"""`tokenlens report`: one offline page of figures, tables and pictures."""

from pathlib import Path
from typing import Annotated

import typer

from .console import cautions, console, wrote
from .options import MOST, Out
from .output import results


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("report", epilog="Example: tokenlens report --pictures 8")(report)


def report(
    directories: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Profile and result directories, several of each too; default: the newest under "
            "./tokenlens-out."
        ),
    ] = None,
    schedule: Annotated[
        Path | None,
        typer.Option(help="Schedule file whose layers are marked; default: the results' own."),
    ] = None,
    out: Out = None,
    pictures: Annotated[
        int, typer.Option(min=0, max=MOST, help="How many pictures to show every layer on.")
    ] = 6,
    samples: Annotated[
        int, typer.Option(min=0, max=MOST, help="How many samples can be looked through.")
    ] = 24,
) -> None:
    """Write an HTML report that opens without a network, and each figure as PNG and SVG."""
    from tokenlens.schedule import Schedule
    from tokenlens.storage.output_paths import find_runs

    runs = find_runs(directories or [])
    marked = Schedule.load(schedule) if schedule else None

    from tokenlens.reports.page import build_report

    files = build_report(
        runs.profile,
        marked,
        runs.results,
        out or runs.report,
        pictures=pictures,
        samples=samples,
        further=runs.further,
    )
    figures = {figure.with_suffix("") for figure in files.figures}
    console.print(f"{len(figures)} figures as PNG and SVG in {files.html.parent / 'figures'}")
    cautions(files.cautions)
    results(
        profile=runs.profile,
        results=runs.results,
        further=[{"profile": one.profile, "results": one.results} for one in runs.further],
        report=files.html,
        figures=files.figures,
    )
    wrote("Report", files.html)
