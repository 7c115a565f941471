"""How many visual tokens does each layer run on? Merged tokens are counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .drawing.canvas import single
from .drawing.style import LIGHT, Theme, arm_colours, fit, layer_ticks, legend_columns, themed

if TYPE_CHECKING:
    from tokenlens.evaluation.comparing.comparison import Comparison


def compute(comparison: Comparison) -> pd.DataFrame:
    """Visual tokens entering each layer, mean over samples: columns arm, layer (from 1), tokens."""
    return comparison.tokens_per_layer()


def plot(
    frame: pd.DataFrame, *, chosen: Sequence[int] = (), ax: Axes | None = None, theme: Theme = LIGHT
) -> Figure:
    """Steps per arm over the layers; marks on the right edge and the legend give the averages.

    Later arms are dashed ever more thinly, so that coinciding ones show through.
    Drawn on `ax` where it is given.
    """
    with themed(theme):
        figure, axes = single(ax, (theme.width, 2.2 + 0.17 * frame["arm"].nunique()))
        layers = sorted(frame["layer"].unique())
        edge = layers[-1] + 0.5
        colours = arm_colours(list(frame["arm"].unique()), theme)
        for index, (arm, part) in enumerate(frame.groupby("arm", sort=False)):
            tokens = part["tokens"].to_numpy()
            axes.stairs(
                tokens,
                np.arange(0.5, edge + 0.5),
                baseline=None,
                color=colours[arm],
                label=f"{fit(str(arm), theme.width - 2.2, 7.5)}: {tokens.mean():.1f} on average",
                linewidth=2,
                linestyle=(0, (8 / index, 8 - 8 / index)) if index > 1 else "-",
            )
            axes.plot(edge, tokens.mean(), "<", color=colours[arm], markersize=6, clip_on=False)
        axes.set(xlabel="layer", ylabel="visual tokens entering", ylim=(0, None), xlim=(0.5, edge))
        axes.grid(axis="y")
        axes.spines[["top", "right"]].set_visible(False)
        layer_ticks(axes, layers, chosen, theme, "x", most=theme.across(0.4, 16))
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=min(2, legend_columns(axes.get_legend_handles_labels()[1], theme)),
            borderpad=0,
            borderaxespad=0.4,
        )
    return figure
