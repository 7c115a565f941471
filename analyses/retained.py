"""Share of the unpruned model's score that each arm retains, against its prefill MACs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import ScaledTranslation

from tokenlens.evaluation.metrics.agreement import NAMES
from tokenlens.wording.figures import percent

from .drawing.canvas import hide_unused, panels
from .drawing.style import LIGHT, Theme, arm_colours, fit, legend_columns, themed

if TYPE_CHECKING:
    from tokenlens.evaluation.comparing.comparison import Comparison

_MARKERS = "osD^vPX"
_UNKNOWN = {True: "the unpruned\nmodel scores 0", False: "no sample\nis scored"}
"""Why a task has no share, by whether it has samples with ground truth."""


def compute(comparison: Comparison) -> pd.DataFrame:
    """Retained share and cost of each arm: rows of each task, then `all` and `macro`.

    Columns: task, arm, samples (those that the shares are of: with ground truth), retained,
    retained_low, retained_high (of the unpruned score; 95 % paired bootstrap interval), quality
    (the kind of these shares: "score retained", or "agreement" with the unpruned model's answers,
    of all samples, where none has ground truth), tokens and macs (shares of the unpruned model's).
    """
    table = comparison.table()
    baseline = table[table["arm"] == next(iter(comparison.arms))].set_index("task")
    frame = table[["task", "arm", "samples", "retained", "retained_low", "retained_high"]].copy()
    agreed = bool((table["unscored"] == table["samples"]).all())
    frame["quality"] = "agreement" if agreed else "score retained"
    if agreed:
        frame[["retained", "retained_low", "retained_high"]] = table[list(NAMES)]
    else:
        frame["samples"] -= table["unscored"]
    for cost in ("tokens", "macs"):
        frame[cost] = table[cost] / table["task"].map(baseline[cost])
    return frame.reset_index(drop=True)


def plot(
    frame: pd.DataFrame, *, axes: Sequence[Axes] | None = None, theme: Theme = LIGHT
) -> Figure:
    """One panel per task: retained score with its interval against the share of prefill MACs.

    Arms stand up to 4 points beside each other, 12 in all, so that those of equal cost can be told
    apart.
    On `axes`, one per task, where they are given.
    """
    tasks = [task for task in frame["task"].unique() if task != "macro"]
    arms = list(frame["arm"].unique())
    colours = arm_colours(arms, theme)
    columns = theme.across(1.6, most=min(4, len(tasks)))
    rows = -(-len(tasks) // columns)
    with themed(theme):
        size, shape = (theme.width, 0.6 + 1.6 * rows), (rows, columns)
        figure, grid = panels(axes, size, shape, count=len(tasks), sharex=True, sharey=True)
        hide_unused(grid, len(tasks))
        for task, panel in zip(tasks, grid.flat, strict=False):
            part = frame[frame["task"] == task]
            panel.axhline(1, color=theme.faint, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
            for index, row in enumerate(part.itertuples()):
                spread = [[row.retained - row.retained_low], [row.retained_high - row.retained]]
                aside = (index - len(arms) / 2) * min(4, 12 / len(arms)) / 72 if index else 0
                panel.errorbar(
                    row.macs,
                    row.retained,
                    yerr=spread,
                    fmt=_MARKERS[index % len(_MARKERS)],
                    color=colours[row.arm],
                    label=fit(row.arm, theme.width - 0.8, 7.5),
                    markersize=5,
                    capsize=2.5,
                    elinewidth=1.1,
                    transform=panel.transData + ScaledTranslation(aside, 0, figure.dpi_scale_trans),
                )
            if part["retained"].isna().all():
                note = {"ha": "center", "va": "center", "fontsize": 7, "color": theme.faint}
                panel.text(0.53, 0.5, _UNKNOWN[bool(part["samples"].iloc[0])], **note)
            count = f" ({int(part['samples'].iloc[0])})"
            room = (theme.width - 0.6) / columns - 0.25 - 0.07 * len(count)
            panel.set_title(fit(task, room, 8.5) + count, pad=4)
            panel.grid()
            panel.spines[["top", "right"]].set_visible(False)
        corner = grid[0, 0]
        corner.set_xlim(0, np.nanmax([1.06, frame["macs"].max() + 0.06]))
        corner.set_ylim(0, np.nanmax([1.05, frame["retained_high"].max() + 0.03]))
        corner.set_xticks([0, 0.5, 1])
        for panel in grid.flat:
            for label, side in zip(panel.get_xticklabels()[::2], ("left", "right"), strict=False):
                label.set_ha(side)
        corner.xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
        corner.yaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
        figure.supxlabel("prefill MACs, of the unpruned model's", fontsize=8)
        figure.supylabel(frame["quality"].iloc[0], fontsize=8)
        handles, labels = corner.get_legend_handles_labels()
        ncols = legend_columns(labels, theme)
        figure.legend(handles, labels, loc="outside upper left", ncols=ncols, borderpad=0)
    return figure
