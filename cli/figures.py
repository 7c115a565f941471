"""`tokenlens figures`: the figures of a paper, ready to print."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .console import console, wrote
from .importing import importing
from .options import MOST
from .output import results, run_folders

if TYPE_CHECKING:
    from tokenlens.analyses.drawing.style import Theme

FORMATS = ("pdf", "svg", "png")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(
        "figures",
        epilog="Example: tokenlens figures --width 3.25in --serif --formats pdf",
    )(figures)


def figures(
    directories: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Directories that profile, run, information or tune wrote; default: the newest "
            "under ./tokenlens-out."
        ),
    ] = None,
    schedule: Annotated[
        Path | None,
        typer.Option(
            help="Schedule file, or hub:USER/NAME[@REVISION], whose layers are marked; default: "
            "the results' own."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: figures, beside the first.")
    ] = None,
    width: Annotated[
        str, typer.Option(help="Of every figure, such as 3.25in (a column), 6.75in or 85mm.")
    ] = "6.75in",
    serif: Annotated[
        bool, typer.Option("--serif/--sans", help="Letters with or without serifs.")
    ] = False,
    formats: Annotated[
        str, typer.Option(help="pdf, svg and png, commas between; letters stay text.")
    ] = "pdf,svg,png",
    scale: Annotated[
        Literal["shared", "layer"],
        typer.Option(help="Importance maps: one scale for all layers, or each layer its own."),
    ] = "shared",
    pictures: Annotated[
        int, typer.Option(min=0, max=MOST, help="How many samples to show on their pictures.")
    ] = 2,
) -> None:
    """Draw every figure that the directories have the numbers for, at its final width."""
    from tokenlens.schedule import Schedule
    from tokenlens.storage.output_paths import find_runs
    from tokenlens.wording.lengths import inches

    wide, suffixes = inches(width), parse_formats(formats)
    runs = find_runs(directories or [])
    marked = Schedule.load(schedule) if schedule else None

    with importing():
        from tokenlens.reports.paper_figures import draw_figures

    folder = out or runs.report.parent / "figures"
    look = _look(wide, serif)
    files = draw_figures(
        runs, marked, folder, formats=suffixes, theme=look, pictures=pictures, scale=scale
    )
    for name, written in files.items():
        sizes = ", ".join(
            f"{path.suffix[1:]} {path.stat().st_size / 1000:.0f} kB" for path in written
        )
        console.print(f"{name}: {sizes}")
    results(**run_folders(runs), width_in=wide, figures=files)
    wrote(f"{len(files)} figures, {wide:g} in wide", folder)


def parse_formats(text: str) -> Sequence[str]:
    """The suffixes of formats that are named with commas between; `OptionError` for another."""
    from tokenlens.errors import OptionError

    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in FORMATS:
            raise OptionError(f"--formats: got {name!r}, expected some of {', '.join(FORMATS)}")
    return [f".{name}" for name in dict.fromkeys(names)]


def _look(width: float, serif: bool) -> "Theme":
    from tokenlens.analyses.drawing.style import LIGHT, SANS, SERIF

    return replace(LIGHT, width=width, font=SERIF if serif else SANS)
