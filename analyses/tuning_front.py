"""Retained score against cost of every trial of a search, with presets, front and choice marked.

    tokenlens tune --budget "33% MACs"

`compute` takes the table of a search (`Tuning.table`), `plot` draws its finished trials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tokenlens.wording.figures import percent

from .drawing.canvas import single
from .drawing.style import LIGHT, Theme, fit, legend_columns, themed

if TYPE_CHECKING:
    from tokenlens.tuning.stored import StoredTuning
    from tokenlens.tuning.tuning import Tuning


def compute(tuning: Tuning | StoredTuning) -> pd.DataFrame:
    """The finished trials, with the columns of `Tuning.table`."""
    table = tuning.table()
    return table[table["outcome"] == "finished"].reset_index(drop=True)


def plot(
    frame: pd.DataFrame,
    *,
    cost: str = "cost",
    quality: str = "retained",
    least: float | None = None,
    ax: Axes | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Plot retained score against cost, both as shares of the unpruned model's.

    Args:
        frame: result of `compute`.
        cost: kind of cost, for the label of the axis.
        quality: what is retained, for the label of the other: of the score, or the same answers.
        least: retained share of the goal, drawn as a line; None draws none.
        ax: axes to draw on.
        theme: colours.
    """
    with themed(theme):
        figure, axes = single(ax, (theme.width, max(2.6, 0.55 * theme.width)))
        named, chosen = frame["name"] != "", frame[frame["chosen"]]
        _dots(axes, frame[~named], "proposed", "o", theme.faint)
        _dots(axes, frame[named], "preset", "s", theme.series[0])
        front = frame[frame["on_front"]].sort_values("cost")
        if len(front):
            axes.step(
                front["cost"],
                front["retained"],
                where="post",
                color=theme.series[2],
                linewidth=1.2,
                label="front",
            )
        _held_out(axes, frame[frame["held_out"].notna()], theme)
        name = "".join(str(one) or "a proposal" for one in chosen["name"])
        _dots(
            axes, chosen, f"chosen: {fit(name, 0.45 * theme.width, 8)}", "*", theme.accent, size=90
        )
        if least is not None:
            label = f"goal: {percent(least)}"
            dashes = (0, (4, 3))
            axes.axhline(least, color=theme.faint, linewidth=0.9, linestyle=dashes, label=label)
        axes.set_xlabel(fit(f"{cost} (unpruned: 100 %)", theme.width - 0.7, 8))
        axes.set_ylabel(quality)
        axes.xaxis.set_major_locator(MaxNLocator(theme.across(0.55, most=9)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g} %"))
        axes.margins(0.04, 0.06)
        axes.grid()
        axes.spines[["top", "right"]].set_visible(False)
        _legend(figure, axes, theme, own=ax is None)
    return figure


def _held_out(axes: Axes, held: pd.DataFrame, theme: Theme) -> None:
    """The shares retained on held-out samples, with their intervals."""
    if held.empty:
        return
    mean, low, high = (held[name] for name in ("held_out", "held_out_low", "held_out_high"))
    axes.errorbar(
        held["cost"],
        mean,
        yerr=[mean - low, high - mean],
        fmt="x",
        color=theme.series[1],
        markersize=4.5,
        capsize=2,
        elinewidth=0.9,
        label="held-out samples",
    )


def _legend(figure: Figure, axes: Axes, theme: Theme, *, own: bool) -> None:
    """A legend above a figure of our own, clear of the points; in given axes where it fits best."""
    handles, labels = axes.get_legend_handles_labels()
    if not own:
        axes.legend(handles, labels, loc="best")
        return
    columns = min(len(labels), legend_columns(labels, theme)) or 1
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)


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
