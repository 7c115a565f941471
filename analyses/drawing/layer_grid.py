"""Heat map of a layers by layers matrix, for the analyses that compare layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .canvas import single
from .style import PAGE, Theme, layer_ticks, themed

WRITTEN_OUT = 16
"""Greatest number of layers for which every cell shows its number."""


def layer_frame(matrix: np.ndarray) -> pd.DataFrame:
    """Label a [layers, layers] matrix with the layers' numbers, from 1."""
    layers = pd.RangeIndex(1, len(matrix) + 1, name="layer")
    return pd.DataFrame(matrix, index=layers, columns=layers)


def plot_grid(
    frame: pd.DataFrame,
    *,
    limits: tuple[float, float],
    colours: str,
    label: str,
    axes_labels: tuple[str, str],
    chosen: Sequence[int],
    ax: Axes | None,
    theme: Theme,
) -> Figure:
    """Heat map of (part of) a `layer_frame`, on `ax` where it is given.

    Chosen layers are marked, missing cells empty.
    """
    written = len(frame) <= WRITTEN_OUT
    with themed(theme):
        figure, axes = single(ax, (PAGE * 0.8, PAGE * 0.66))
        sns.heatmap(
            frame,
            ax=axes,
            vmin=limits[0],
            vmax=limits[1],
            cmap=colours,
            square=True,
            linewidths=0.6 if written else 0,
            linecolor=theme.paper,
            rasterized=not written,
            annot=written,
            fmt=".2f",
            annot_kws={"fontsize": 6.5},
            cbar_kws={"label": label, "shrink": 0.86, "pad": 0.02},
        )
        bar = axes.collections[0].colorbar
        if bar is not None:
            bar.outline.set_visible(False)
        axes.set(xlabel=axes_labels[0], ylabel=axes_labels[1])
        for axis, layers in (("x", frame.columns), ("y", frame.index)):
            layer_ticks(axes, list(layers), chosen, theme, axis, most=20, offset=0.5 - layers[0])
        axes.tick_params(length=0, rotation=0)
    return figure
