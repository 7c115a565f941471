"""Which method retains most for its cost? Averages against MACs and against measured prefill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from tokenlens.evaluation.comparing.tables import LOCALISATION, MACS, OTHER, TIME, budget_tables

from .drawing.canvas import panels
from .drawing.style import LIGHT, Theme, fit, legend_columns, themed

if TYPE_CHECKING:
    from tokenlens.evaluation.comparing.comparison import Comparison

COSTS = {MACS: "prefill MACs", TIME: "measured prefill"}
"""Names of the costs on the axes, by their columns in the tables."""
_MARKERS = "osD^vPX"
_SIDES = ["retained", "retained_low", "retained_high", "share", "share_low", "share_high"]


def compute(comparison: Comparison) -> pd.DataFrame:
    """The averages of every method at every budget against each cost, as the tables have them.

    Columns: average (`LOCALISATION` or `OTHER`), cost (a key of `COSTS`; the measured time only
    where it was measured), budget, method, retained (of the unpruned score) and share (of the
    unpruned model's cost), each with the ends of its 95 % interval (`_low`, `_high`).
    """
    rows = []
    for table in budget_tables(comparison):
        for method, cells in table.rows.items():
            found = {
                column.name: (cell.value, cell.low, cell.high)
                for column, cell in zip(table.columns, cells, strict=True)
                if not cell.empty
            }
            rows += [
                (average, cost, table.budget, method, *found[average], *found[cost])
                for average in (LOCALISATION, OTHER)
                for cost in COSTS
                if average in found and cost in found
            ]
    return pd.DataFrame(rows, columns=["average", "cost", "budget", "method", *_SIDES])


def plot(
    frame: pd.DataFrame, *, axes: Sequence[Axes] | None = None, theme: Theme = LIGHT
) -> Figure:
    """A row of panels per average, a column per cost; crosses are 95 % intervals.

    A method has one colour and marker; of several budgets the first is filled, others are hollow.
    On `axes`, row by row, where they are given.
    """
    averages, costs = list(frame["average"].unique()), list(frame["cost"].unique())
    budgets, methods = list(frame["budget"].unique()), list(frame["method"].unique())
    looks = {
        method: (theme.series[place % 7], _MARKERS[(place + place // 7) % 7])
        for place, method in enumerate(methods)
    }
    entries = _entries(looks, budgets, theme)
    ncols = legend_columns([str(entry.get_label()) for entry in entries], theme)
    with themed(theme):
        height = 0.55 + 1.75 * len(averages) + 0.16 * -(-len(entries) // ncols)
        shape = (len(averages), len(costs))
        figure, grid = panels(axes, (theme.width, height), shape, sharex=True, sharey=True)
        for (average, cost, budget), part in frame.groupby(
            ["average", "cost", "budget"], sort=False
        ):
            panel = grid.reshape(shape)[averages.index(average), costs.index(cost)]
            for row in part.itertuples():
                colour, marker = looks[row.method]
                panel.errorbar(
                    row.share,
                    row.retained,
                    xerr=[[row.share - row.share_low], [row.share_high - row.share]],
                    yerr=[[row.retained - row.retained_low], [row.retained_high - row.retained]],
                    fmt=marker,
                    color=colour,
                    markerfacecolor=colour if budget == budgets[0] else theme.paper,
                    markersize=4.5,
                    elinewidth=0.8,
                )
        _frame(figure, grid.reshape(shape), averages, costs, frame, theme)
        figure.legend(handles=entries, loc="outside upper left", ncols=ncols, borderpad=0)
    return figure


def _entries(
    looks: dict[str, tuple[str, str]], budgets: Sequence[str], theme: Theme
) -> list[Line2D]:
    """The legend: a marker per method, then what filled and hollow ones mean."""
    room = theme.width - 0.7
    entries = [
        Line2D([], [], linestyle="none", marker=marker, color=colour, label=fit(name, room, 7.5))
        for name, (colour, marker) in looks.items()
    ]
    if len(budgets) > 1:
        for name, face in ((budgets[0], theme.faint), (", ".join(budgets[1:]), theme.paper)):
            look: dict[str, Any] = {"marker": "o", "color": theme.faint, "markerfacecolor": face}
            label = fit(f"at {name}", room, 7.5)
            entries.append(Line2D([], [], linestyle="none", label=label, **look))
    return entries


def _frame(
    figure: Figure,
    grid: np.ndarray,
    averages: Sequence[str],
    costs: Sequence[str],
    frame: pd.DataFrame,
    theme: Theme,
) -> None:
    """Limits, grids and words of all panels."""
    for line, average in zip(grid, averages, strict=True):
        line[0].set_ylabel(average.replace(" ", "\n") + ",\n% retained")
        for panel in line:
            panel.axhline(1, color=theme.faint, linewidth=0.9, linestyle=(0, (4, 3)))
            panel.grid()
            panel.spines[["top", "right"]].set_visible(False)
    for panel, cost in zip(grid[-1], costs, strict=True):
        panel.set_xlabel(COSTS[cost])
        for label, side in zip(panel.get_xticklabels()[::2], ("left", "right"), strict=False):
            label.set_ha(side)
    corner = grid[0, 0]
    right = np.nanmax([1.05, frame["share_high"].max() + 0.03])
    corner.set_xlim(0, right)
    corner.set_xticks(np.arange(0, right, np.ceil(2 * right / 3) / 2))
    top = np.nanmax([1.05, frame["retained_high"].max() + 0.03])
    corner.set_ylim(0, top)
    corner.set_yticks(np.arange(0, top, np.ceil(2 * top / 3) / 2))
    for axis in (corner.xaxis, corner.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f}"))
    figure.supxlabel("cost, % of the unpruned model's", fontsize=8)
