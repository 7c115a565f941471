"""`tokenlens report`: one offline page of figures, tables and pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import cautions, console, wrote
from .importing import importing
from .options import MOST, Out
from .output import results, run_folders

if TYPE_CHECKING:
    from tokenlens.schedule import Schedule
    from tokenlens.storage.output_paths import Runs


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("report", epilog="Example: tokenlens report --pictures 8")(report)


def report(
    directories: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Directories that profile, run, information or tune wrote, several of each too, "
            "and the file that bench wrote; default: the newest under ./tokenlens-out."
        ),
    ] = None,
    schedule: Annotated[
        Path | None,
        typer.Option(
            help="Schedule file, or hub:USER/NAME[@REVISION], whose layers are marked; default: "
            "the results' own."
        ),
    ] = None,
    out: Out = None,
    pictures: Annotated[
        int, typer.Option(min=0, max=MOST, help="How many pictures to show every layer on.")
    ] = 6,
    samples: Annotated[
        int, typer.Option(min=0, max=MOST, help="How many samples can be looked through.")
    ] = 24,
    figures: Annotated[
        bool,
        typer.Option(
            "--figures",
            help="Also draw the figures of a paper (PDF, SVG, PNG), as `tokenlens figures` does.",
        ),
    ] = False,
) -> None:
    """Write an HTML report that opens without a network, and each figure as PNG and SVG."""
    from tokenlens.schedule import Schedule
    from tokenlens.storage.output_paths import find_runs

    runs = find_runs(directories or [])
    marked = Schedule.load(schedule) if schedule else None

    with importing():
        from tokenlens.reports.page import build_report

    files = build_report(
        runs.profile,
        marked,
        runs.results,
        out or runs.report,
        pictures=pictures,
        samples=samples,
        further=runs.further,
        information=runs.information,
        tuning=runs.tuning,
        bench=runs.bench,
    )
    shown = {figure.with_suffix("") for figure in files.figures}
    console.print(f"{len(shown)} figures as PNG and SVG in {files.html.parent / 'figures'}")
    if figures:
        _draw(runs, marked, files.html.parent / "paper")
    cautions(files.cautions)
    further = [run_folders(one) for one in runs.further]
    results(**run_folders(runs), further=further, report=files.html, figures=files.figures)
    wrote("Report", files.html)


def _draw(runs: "Runs", marked: "Schedule | None", folder: Path) -> None:
    """Draw the figures of a paper, and say where they are."""
    from tokenlens.reports.paper_figures import draw_figures

    drawn = draw_figures(runs, marked, folder)
    console.print(f"{len(drawn)} figures of a paper as PDF, SVG and PNG in {folder}")
    results(paper_figures=drawn)
