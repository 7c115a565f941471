"""Scores of every layer by each criterion, with their intervals, and the chosen layers."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokenlens.methods.plan import Selection

from ..drawing.canvas import single
from ..drawing.style import LIGHT, Theme, layer_ticks, themed
from .paired_difference import markdown_table

Choices = Mapping[str, Mapping[str, Selection]]
"""Choices by budget and criterion."""


def compute(choices: Choices) -> pd.DataFrame:
    """The capability x_i of every layer: columns criterion, layer, score, low, high, chosen.

    `chosen` names the budgets at which the layer is.
    """
    by_budget = list(choices.items())
    return pd.DataFrame(
        {
            "criterion": name,
            "layer": verdict.layer,
            "score": verdict.score,
            "low": verdict.low,
            "high": verdict.high,
            "chosen": [b for b, found in by_budget if verdict.layer in found[name].layers],
        }
        for name, selection in by_budget[0][1].items()
        for verdict in selection.verdicts
    )


def markdown(table: pd.DataFrame) -> str:
    """A row per layer, a column per criterion; an asterisk per budget at which it is chosen."""
    names = list(table["criterion"].unique())
    rows = []
    for layer, part in table.groupby("layer"):
        by_name = part.set_index("criterion").loc[names]
        cells = [
            f"{row.score:.2f} [{row.low:.2f}, {row.high:.2f}]" + "\N{ASTERISK}" * len(row.chosen)
            for row in by_name.itertuples()
        ]
        rows.append([str(layer), *(cell.replace("*", "\\*") for cell in cells)])
    return markdown_table(["layer", *names], rows)


def plot(table: pd.DataFrame, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Figure:
    """A line per criterion with its interval, chosen layers as dots."""
    layers = sorted(table["layer"].unique())
    with themed(theme):
        figure, axes = single(ax, (theme.width, 2.8))
        for colour, (name, line) in zip(
            theme.series, table.groupby("criterion", sort=False), strict=False
        ):
            axes.plot(line["layer"], line["score"], color=colour, label=name)
            axes.fill_between(line["layer"], line["low"], line["high"], color=colour, alpha=0.15)
            dots = line[line["chosen"].map(len) > 0]
            axes.plot(dots["layer"], dots["score"], "o", color=colour, markersize=4)
        layer_ticks(axes, layers, [], theme, "x", most=24)
        axes.set_xlabel("layer")
        axes.set_ylabel("score")
        axes.spines[["top", "right"]].set_visible(False)
        if ax is None:
            figure.legend(loc="outside upper center", ncols=5)
        else:
            ax.legend()
    return figure
