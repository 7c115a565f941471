"""Heat map of a layers by layers matrix, for the analyses that compare layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from .canvas import single
from .heat_map import heat_map, lined_heat_map, write_values
from .style import Theme, layer_ticks, themed

_LEAST_CELL = 0.27
"""Inches of a cell whose number is written into it."""


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
    chance: float | None = None,
    ax: Axes | None,
    theme: Theme,
) -> Figure:
    """Heat map of (part of) a `layer_frame`, on `ax` where it is given.

    Chosen layers are marked, missing cells empty; `chance`, a share, is marked on the colour bar.
    """
    with themed(theme):
        width = max(0.8 * theme.width, min(theme.width, 3.5))
        written = (width - 1.1) / len(frame) >= _LEAST_CELL
        figure, axes = single(ax, (width, width * 0.84))
        cells: ScalarMappable
        if written:
            cells = lined_heat_map(
                axes, frame, limits=limits, colours=colours, gap=0.6, ground=theme.paper
            )
            axes.set_aspect("equal")
            write_values(axes, cells, frame, 6)
        else:
            cells = heat_map(axes, frame, limits=limits, colours=colours, square=True)
        bar = figure.colorbar(
            cells, ax=axes, label=label, shrink=0.86, pad=0.02, extend=_beyond(frame, limits)
        )
        bar.outline.set_visible(False)
        if chance is not None:
            bar.ax.axhline(chance, color=theme.accent, linewidth=1.5)
            ticks = [limits[0], chance, limits[1]]
            bar.set_ticks(ticks, labels=[f"{limits[0]:.2g}", "chance", f"{limits[1]:.2g}"])
        axes.set(xlabel=axes_labels[0], ylabel=axes_labels[1])
        for axis, layers in (("x", frame.columns), ("y", frame.index)):
            layer_ticks(
                axes,
                list(layers),
                chosen,
                theme,
                axis,
                most=int((width - 1.1) / 0.2),
                offset=0.5 - layers[0],
            )
        axes.tick_params(length=0, rotation=0)
    return figure


def _beyond(frame: pd.DataFrame, limits: tuple[float, float]) -> str:
    """At which ends of a colour bar there are values beyond it."""
    low, high = np.nanmin(frame) < limits[0], np.nanmax(frame) > limits[1]
    return {(True, True): "both", (True, False): "min", (False, True): "max"}.get(
        (bool(low), bool(high)), "neither"
    )
