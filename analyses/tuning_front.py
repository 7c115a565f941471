"""Retained score against cost of every trial of a search, with presets, front and choice marked.

    tokenlens tune --budget "33% MACs"

`compute` takes the table of a search (`Tuning.table`), `plot` draws its finished trials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tokenlens.wording.figures import percent

from .drawing.canvas import single
from .drawing.style import LIGHT, Theme, shorten, themed

if TYPE_CHECKING:
    from tokenlens.tuning.tuning import Tuning


def compute(tuning: Tuning) -> pd.DataFrame:
    """The finished trials, with the columns of `Tuning.table`."""
    table = tuning.table()
    return table[table["outcome"] == "finished"].reset_index(drop=True)


def plot(
    frame: pd.DataFrame,
    *,
    cost: str = "cost",
    least: float | None = None,
    ax: Axes | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Plot retained score against cost, both as shares of the unpruned model's.

    Args:
        frame: result of `compute`.
        cost: kind of cost, for the label of the axis.
        least: retained share of the goal, drawn as a line; None draws none.
        ax: axes to draw on.
        theme: colours.
    """
    with themed(theme):
        figure, axes = single(ax, (theme.width * 0.75, 3.6))
        named = frame["name"] != ""
        _dots(axes, frame[~named], "proposed", "o", theme.faint)
        _dots(axes, frame[named], "preset", "s", theme.series[0])
        front = frame[frame["on_front"]].sort_values("cost")
        axes.step(
            front["cost"], front["retained"], where="post", color=theme.series[2], label="front"
        )
        held = frame[frame["held_out"].notna()]
        if len(held):
            axes.errorbar(
                held["cost"],
                held["held_out"],
                yerr=[
                    held["held_out"] - held["held_out_low"],
                    held["held_out_high"] - held["held_out"],
                ],
                fmt="x",
                color=theme.series[1],
                markersize=4.5,
                capsize=2,
                elinewidth=0.9,
                label="held-out",
            )
        chosen = frame[frame["chosen"]]
        _dots(axes, chosen, "chosen", "*", theme.accent, size=90)
        for row in chosen.itertuples():
            axes.annotate(
                shorten(row.name or f"trial {row.trial}"),
                (row.cost, row.retained),
                textcoords="offset points",
                xytext=(6, 4),
                fontsize=7,
                color=theme.accent,
            )
        if least is not None:
            axes.axhline(least, color=theme.faint, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_xlabel(cost)
        axes.set_ylabel("retained")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
        axes.grid()
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower right")
    return figure


def _dots(
    axes: Axes, part: pd.DataFrame, label: str, marker: str, colour: str, size: float = 16
) -> None:
    if len(part):
        axes.scatter(
            part["cost"],
            part["retained"],
            s=size,
            marker=marker,
            color=colour,
            label=label,
            zorder=3,
        )
