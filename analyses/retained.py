"""Share of the unpruned model's score that each arm retains, against its prefill MACs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import ScaledTranslation

from tokenlens.evaluation.metrics.agreement import NAMES
from tokenlens.wording.figures import percent

from .drawing.canvas import panels
from .drawing.style import LIGHT, PAGE, Theme, arm_colours, shorten, themed

if TYPE_CHECKING:
    from tokenlens.evaluation.comparing.comparison import Comparison

_MARKERS = "osD^vPX"


def compute(comparison: Comparison) -> pd.DataFrame:
    """Retained share and cost of each arm: rows of each task, then `all` and `macro`.

    Columns: task, arm, samples, retained, retained_low, retained_high (of the unpruned score; 95 %
    paired bootstrap interval), quality (the kind of these shares: "score retained", or "agreement"
    with the unpruned model's answers where no sample has ground truth), tokens and macs (shares of
    the
    unpruned model's).
    """
    table = comparison.table()
    baseline = table[table["arm"] == next(iter(comparison.arms))].set_index("task")
    frame = table[["task", "arm", "samples", "retained", "retained_low", "retained_high"]].copy()
    agreed = bool((table["unscored"] == table["samples"]).all())
    frame["quality"] = "agreement" if agreed else "score retained"
    if agreed:
        frame[["retained", "retained_low", "retained_high"]] = table[list(NAMES)]
    for cost in ("tokens", "macs"):
        frame[cost] = table[cost] / table["task"].map(baseline[cost])
    return frame.reset_index(drop=True)


def plot(
    frame: pd.DataFrame, *, axes: Sequence[Axes] | None = None, theme: Theme = LIGHT
) -> Figure:
    """One panel per task: retained score with its interval against the share of prefill MACs.

    Arms are shifted by 4 points each, so that those of equal cost can be distinguished.
    On `axes`, one per task, where they are given.
    """
    tasks = [task for task in frame["task"].unique() if task != "macro"]
    arms = list(frame["arm"].unique())
    colours = arm_colours(arms, theme)
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    with themed(theme):
        size, shape = (PAGE, 0.45 + 1.75 * rows), (rows, columns)
        figure, grid = panels(axes, size, shape, count=len(tasks), sharex=True, sharey=True)
        for panel in grid.flat[len(tasks) :]:
            panel.set_visible(False)
        for task, panel in zip(tasks, grid.flat, strict=False):
            part = frame[frame["task"] == task]
            panel.axhline(1, color=theme.faint, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
            for index, row in enumerate(part.itertuples()):
                spread = [[row.retained - row.retained_low], [row.retained_high - row.retained]]
                aside = (index - len(arms) / 2) * 4 / 72 if index else 0
                panel.errorbar(
                    row.macs,
                    row.retained,
                    yerr=spread,
                    fmt=_MARKERS[index % len(_MARKERS)],
                    color=colours[row.arm],
                    label=shorten(row.arm),
                    markersize=5,
                    capsize=2.5,
                    elinewidth=1.1,
                    transform=panel.transData + ScaledTranslation(aside, 0, figure.dpi_scale_trans),
                )
            panel.set_title(f"{shorten(task, 24)} ({int(part['samples'].iloc[0])})", pad=4)
            panel.grid()
            panel.spines[["top", "right"]].set_visible(False)
        corner = grid[0, 0]
        lowest = frame["retained_low"].min(skipna=True)
        corner.set_xlim(0, 1.06)
        corner.set_ylim(0 if lowest < 0.5 else 0.45, max(1.05, frame["retained_high"].max() + 0.03))
        corner.xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
        corner.yaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
        figure.supxlabel("prefill MACs, of the unpruned model's", fontsize=8)
        figure.supylabel(frame["quality"].iloc[0], fontsize=8)
        handles, labels = corner.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3, borderpad=0)
    return figure
