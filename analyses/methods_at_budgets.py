"""Which method retains most at which budget? Averages with their intervals, one row per method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tokenlens.evaluation.comparing.tables import LOCALISATION, OTHER, budget_tables
from tokenlens.wording.figures import percent

from .drawing.canvas import panels
from .drawing.style import LIGHT, Theme, fit, legend_columns, themed

if TYPE_CHECKING:
    from tokenlens.evaluation.comparing.comparison import Comparison

_MARKERS = "osD^vPX"


def compute(comparison: Comparison) -> pd.DataFrame:
    """The averages of every method at every budget, as the tables have them.

    Columns: average (`LOCALISATION` or `OTHER`), budget, method, retained, low, high (of the
    unpruned score; 95 % paired bootstrap interval), best (marked as the winner of its budget).
    """
    return pd.DataFrame(
        [
            (column.name, table.budget, method, cell.value, cell.low, cell.high, cell.best)
            for table in budget_tables(comparison)
            for method, cells in table.rows.items()
            for column, cell in zip(table.columns, cells, strict=True)
            if column.name in (LOCALISATION, OTHER)
        ],
        columns=["average", "budget", "method", "retained", "low", "high", "best"],
    )


def plot(
    frame: pd.DataFrame, *, axes: Sequence[Axes] | None = None, theme: Theme = LIGHT
) -> Figure:
    """A panel per average, methods from top to bottom, a colour and marker per budget.

    Winners are filled, all others hollow. On `axes`, one per average, where they are given.
    """
    averages, budgets = frame["average"].unique(), frame["budget"].unique()
    methods = list(frame["method"].unique())
    with themed(theme):
        size = (theme.width, 0.9 + 0.28 * len(methods))
        figure, grid = panels(axes, size, (1, len(averages)), sharex=True, sharey=True)
        for (average, budget), part in frame.groupby(["average", "budget"], sort=False):
            place = list(budgets).index(budget)
            panel, colour = grid[0, list(averages).index(average)], theme.series[place % 7]
            aside = (place - (len(budgets) - 1) / 2) * 0.6 / len(budgets)
            for row in part.itertuples():
                panel.errorbar(
                    row.retained,
                    methods.index(row.method) + aside,
                    xerr=[[row.retained - row.low], [row.high - row.retained]],
                    fmt=_MARKERS[place % len(_MARKERS)],
                    color=colour,
                    markerfacecolor=colour if row.best else theme.paper,
                    markersize=4.5,
                    capsize=2,
                    elinewidth=1.1,
                    label=budget,
                )
        top = np.nanmax([1.05, frame["high"].max() + 0.03])
        grid[0, 0].set_xticks(np.arange(0, top, np.ceil(2 * top / 3) / 2))
        for average, panel in zip(averages, grid[0], strict=True):
            panel.set_title(average.replace(" ", "\n"))
            for label, side in zip(panel.get_xticklabels()[::2], ("left", "right"), strict=False):
                label.set_ha(side)
            panel.axvline(1, color=theme.faint, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
            panel.grid(axis="x")
            panel.spines[["top", "right"]].set_visible(False)
        names = [fit(method, theme.width / 4, 7.5) for method in methods]
        grid[0, 0].set_yticks(range(len(methods)), names)
        grid[0, 0].set_ylim(len(methods) - 0.5, -0.5)
        grid[0, 0].set_xlim(0, top)
        grid[0, 0].xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
        figure.supxlabel("score retained", fontsize=8)
        handles = {
            label: handle
            for panel in grid[0]
            for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside upper center",
            ncols=legend_columns(handles, theme),
        )
    return figure
