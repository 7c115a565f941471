"""How many visual tokens does each layer run on? Merged tokens are counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .style import LIGHT, PAGE, Theme, arm_colours, layer_ticks, shorten, themed

if TYPE_CHECKING:
    from tokenlens.evaluation.comparison import Comparison


def compute(comparison: Comparison) -> pd.DataFrame:
    """Visual tokens entering each layer, mean over samples: columns arm, layer (from 1), tokens."""
    return comparison.tokens_per_layer()


def plot(frame: pd.DataFrame, *, chosen: Sequence[int] = (), theme: Theme = LIGHT) -> Figure:
    """Steps per arm over the layers; the dashed line and the legend give each arm's average."""
    with themed(theme):
        figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
        axes = figure.subplots()
        layers = sorted(frame["layer"].unique())
        colours = arm_colours(list(frame["arm"].unique()), theme)
        for arm, part in frame.groupby("arm", sort=False):
            tokens = part["tokens"].to_numpy()
            edges = np.arange(0.5, len(tokens) + 1)
            axes.stairs(tokens, edges, color=colours[arm], alpha=0.1, fill=True, linewidth=0)
            label = f"{shorten(arm)}: {tokens.mean():.1f} on average"
            axes.stairs(
                tokens, edges, color=colours[arm], label=label, linewidth=1.8, baseline=None
            )
            axes.axhline(tokens.mean(), color=colours[arm], linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set(xlabel="layer", ylabel="visual tokens entering", ylim=(0, None))
        axes.set_xlim(0.5, layers[-1] + 0.5)
        axes.grid(axis="y")
        axes.spines[["top", "right"]].set_visible(False)
        layer_ticks(axes, layers, chosen, theme, "x")
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0, borderaxespad=0.4
        )
    return figure
