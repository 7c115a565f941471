"""Section about a search for a schedule: its front, the presets beside it, and the choice."""

from dataclasses import dataclass
from math import isnan
from typing import Any

from tokenlens.analyses import tuning_front
from tokenlens.reports.figures import FigureFolder, Plate
from tokenlens.reports.nearby import near
from tokenlens.tuning.goal import OBJECTIVES
from tokenlens.tuning.stored import StoredTuning
from tokenlens.wording.figures import counted, percent, percent_interval

_NONE = "\N{EM DASH}"


@dataclass(frozen=True)
class TuningSection:
    """The front of a search, drawn and as a table, and what limits its figures.

    `quality` is the heading of what is retained: of the score, or the same answers.
    """

    goal: str
    plate: Plate
    finding: str
    quality: str
    cost: str
    lines: list[dict[str, Any]]
    cautions: tuple[str, ...]


def tuning_section(found: StoredTuning, figures: FigureFolder) -> TuningSection:
    """The trials of a search: those on the front, and the chosen one."""
    frame = tuning_front.compute(found)
    cost, finding = OBJECTIVES[found.goal.objective], _finding(found)
    quality = found.goal.quality
    plate = figures.plate(
        "tuning-front",
        lambda theme: tuning_front.plot(
            frame, cost=cost, quality=quality, least=found.goal.least, theme=theme
        ),
        f"Points: {quality} of each trial against its {cost}, the front as a line. {finding}",
    )
    shown = frame[frame["on_front"] | frame["chosen"]].sort_values(["cost", "trial"])
    lines = [_line(row) for row in shown.to_dict("records")]
    return TuningSection(found.goal.words, plate, finding, quality, cost, lines, found.cautions)


def _finding(found: StoredTuning) -> str:
    """Sentences on what was tried, and what was chosen."""
    data = found.identity["data"]
    split = f" ({data['split']})" if data["split"] else ""
    ended = int((found.trials["outcome"] == "finished").sum())
    tried = (
        f"{counted(len(found.trials), 'schedule')} tried, {ended} of them on all "
        f"{counted(found.samples, 'sample')} of {near(data['source'] or 'samples in memory')}"
        f"{split}."
    )
    chosen = found.trials[found.trials["chosen"]]
    if chosen.empty:
        return f"{tried} None meets the goal."
    row = chosen.iloc[0]
    held = ""
    if not isnan(row["held_out"]):
        ends = percent_interval(row["held_out_low"], row["held_out_high"])
        held = (
            f"; on {counted(found.held_out_samples, 'held-out sample')}, which chose nothing, "
            f"{percent(row['held_out'], 1)} ({ends})"
        )
    does = "retains" if found.goal.labels else "agrees with the unpruned model in"
    return (
        f"{tried} Chosen: {_title(row)}, which {does} {percent(row['retained'], 1)} at "
        f"{percent(row['cost'], 1)} of the {OBJECTIVES[found.goal.objective]}{held}."
    )


def _line(row: dict[str, Any]) -> dict[str, Any]:
    held = not isnan(row["held_out"])
    return {
        "title": _title(row),
        "chosen": row["chosen"],
        "cost": percent(row["cost"], 1),
        "retained": percent(row["retained"], 1),
        "interval": percent_interval(row["low"], row["high"]),
        "held_out": percent(row["held_out"], 1) if held else _NONE,
        "held_out_interval": percent_interval(row["held_out_low"], row["held_out_high"])
        if held
        else "",
        "stages": row["stages"],
    }


def _title(row: Any) -> str:
    return str(row["name"]) or f"trial {row['trial']}"
