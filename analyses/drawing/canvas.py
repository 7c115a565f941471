"""Axes for a figure: the caller's, or those of a new figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray


def single(ax: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """The axes that are given and their figure, or those of a new one of `size` in inches."""
    if ax is not None:
        return root_figure(ax), ax
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def panels(
    axes: Sequence[Axes] | NDArray[Any] | None,
    size: tuple[float, float],
    shape: tuple[int, int],
    *,
    count: int | None = None,
    sharex: bool | Literal["col"] = False,
    sharey: bool | Literal["col"] = False,
    **layout: Any,
) -> tuple[Figure, NDArray[Any]]:
    """A figure and its axes as an array of `shape`, [rows, columns].

    Args:
        axes: those to draw on, row by row; None makes a figure.
        size: of a new figure, in inches.
        shape: rows and columns.
        count: number of panels that are used, where not all are. At least this many axes must be
            given; they are returned as one row where they do not fill the shape.
        sharex: as for `Figure.subplots`; where it is true, given axes are joined too.
        sharey: likewise.
        layout: other arguments of `Figure.subplots`.

    Raises `ValueError` where fewer axes are given than there are panels.
    """
    if axes is None:
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(*shape, squeeze=False, sharex=sharex, sharey=sharey, **layout)
        return figure, grid
    given = np.ravel(np.array(axes, dtype=object))
    whole = shape[0] * shape[1]
    wanted = whole if count is None else count
    if len(given) < wanted:
        raise ValueError(f"axes: got {len(given)}, expected {wanted}, one per panel")
    first, *others = given[:wanted]
    for one in others:
        if sharex is True and not first.get_shared_x_axes().joined(first, one):
            one.sharex(first)
        if sharey is True and not first.get_shared_y_axes().joined(first, one):
            one.sharey(first)
    drawn = given[:wanted]
    return root_figure(first), drawn.reshape(shape if wanted == whole else (1, wanted))


def hide_unused(grid: NDArray[Any], count: int) -> None:
    """Hide all but the first `count` panels; the lowest of each column get tick labels."""
    for panel in grid.flat[count:]:
        panel.set_visible(False)
    for panel in grid.flat[max(0, count - grid.shape[1]) : count]:
        panel.tick_params(labelbottom=True)


def root_figure(ax: Axes) -> Figure:
    """The top figure of axes, also for axes in a subfigure."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("ax: got axes that are in no figure")
    return figure
