"""Section about speed: what a bench measured beside the unpruned model."""

from dataclasses import dataclass

from tokenlens.analyses import bench_speed
from tokenlens.benching.records import HEADINGS, Bench, table_rows
from tokenlens.reports.figures import FigureFolder, Plate
from tokenlens.reports.nearby import near
from tokenlens.wording.figures import counted


@dataclass(frozen=True)
class SpeedSection:
    """A bench, drawn and as a table; `plate` is None where all of it is estimated."""

    plate: Plate | None
    finding: str
    headings: tuple[str, ...]
    lines: list[tuple[str, tuple[str, ...]]]


def speed_section(bench: Bench, figures: FigureFolder) -> SpeedSection:
    """The cells of a bench, in the order in which they were measured."""
    frame, finding, plate = bench_speed.compute(bench), _finding(bench), None
    if not frame.empty:
        plate = figures.plate(
            "speed",
            lambda theme: bench_speed.plot(frame, theme=theme),
            f"Efficiency of every method with its quartiles, and its ceiling. {finding}",
        )
    lines = [(name, tuple(cells)) for name, *cells in table_rows(bench)]
    return SpeedSection(plate, finding, HEADINGS, lines)


def _finding(bench: Bench) -> str:
    """What was measured, how often, and where; of estimates alone, of which model they are."""
    made = bench.identity
    model = made["model"] or f"random weights in the shape of {made['like']}"
    parts = [counted(made["layers"], "layer")] if made["layers"] is not None else []
    parts += [f"width {made['width']}"] if made["width"] is not None else []
    scaled = f" ({', '.join(parts)})" if parts else ""
    about = f"{near(str(model))}{scaled}, {made['dtype']}."
    if all(row["estimate"] for row in bench.rows):
        return f"Counts of {about}"
    place = "a CPU" if made["device_name"] == "cpu" else made["device_name"]
    threads = f", {counted(made['threads'], 'thread')}" if place == "a CPU" else ""
    return f"Medians of {counted(made['rounds'], 'round')} on {place}{threads}: {about}"
