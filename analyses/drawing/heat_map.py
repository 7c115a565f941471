"""Heat maps: a cell of colour for every value of a table, and the colour maps that they use."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.image import AxesImage

_STOPS = {
    "mako": (
        "0b0405 11070c 160b13 1b0f1a 201322 251729 291a31 2e1e39 312142 35254a 382953 3b2d5b "
        "3d3164 3f366d 403a76 413e7f 414387 40498e 3e4f94 3c5598 3a5b9b 38619d 37669e 366ca0 "
        "3572a1 3578a2 357da3 3483a5 3488a6 348ea7 3493a8 3499aa 359fab 36a4ab 38aaac 3bafad "
        "3fb5ad 43baad 48c0ad 4fc5ad 57cbad 62cfac 70d4ad 7fd7af 8edbb3 9cdeb7 a9e1bd b5e5c4 "
        "c0e9cc caedd4 d4f1dc def5e5"
    ),
    "vlag": (
        "2369bd 316fbc 3d74bc 4879bc 517fbc 5b84bd 6489be 6c8ebf 7594c0 7d99c2 859ec4 8da4c6 "
        "95a9c8 9dafcb a5b5ce adbbd1 b5c0d4 bdc6d7 c5cddb cdd3df d5d9e3 dde0e7 e6e6ec eeedf0 "
        "f5f2f4 f9f5f5 faf4f3 f9efee f6e8e7 f2e0df efd8d6 ebd0ce e7c8c6 e4c0be e1b9b6 deb1ae "
        "daa9a7 d7a29f d49a97 d19290 ce8b88 cb8481 c87c7a c57572 c16d6b be6664 bb5e5d b75756 "
        "b44f4f b04748 ac3f42 a9373b"
    ),
    "icefire": (
        "bde7db afddd7 a1d3d4 93cad1 84c1cf 75b8ce 65afcd 58a5cd 4c9ccd 4192ce 3987cf 377cd0 "
        "3b71cd 4265c5 475ab9 4a50a9 484996 444282 3e3c70 38365f 323050 2c2b42 272636 23222d "
        "202025 1f1e20 211e1e 271e1f 2f1f22 392126 43232a 4f2630 5c2935 6a2b3a 782c3f 872d42 "
        "962e44 a52f44 b33341 c0393d cc4139 d54b35 de5733 e56433 ea7238 ee8142 f18f51 f49d63 "
        "f7ab75 fab887 fcc69a ffd4ac"
    ),
}
"""Colours at even distances along maps by Waskom (2021, seaborn): each fifth of their 256."""
_BRIGHT = 0.408
"""Luminance of a cell from which on what is written into it is dark."""


@cache
def colour_map(name: str) -> Colormap:
    """One of the colour maps by name, backwards where that ends in "_r"; `KeyError` for another."""
    if name.endswith("_r"):
        return colour_map(name.removesuffix("_r")).reversed()
    stops = [f"#{stop}" for stop in _STOPS[name].split()]
    return LinearSegmentedColormap.from_list(name, stops)


def heat_map(
    axes: Axes,
    frame: pd.DataFrame,
    *,
    limits: tuple[float, float],
    colours: str,
    square: bool = False,
) -> AxesImage:
    """Cells of unit size, the first row at the top; missing values have none.

    They are the pixels of a picture, which files keep as they are and viewers enlarge. `limits` are
    the values at the ends of the colour map. The axes have neither spines nor ticks.
    """
    cells = axes.imshow(
        frame.to_numpy(dtype=np.float64),
        cmap=colour_map(colours),
        vmin=limits[0],
        vmax=limits[1],
        extent=(0, frame.shape[1], frame.shape[0], 0),
        aspect="equal" if square else "auto",
        interpolation="none",
    )
    _bare(axes)
    return cells


def lined_heat_map(
    axes: Axes,
    frame: pd.DataFrame,
    *,
    limits: tuple[float, float],
    colours: str,
    gap: float,
    ground: str,
) -> QuadMesh:
    """The same with lines between the cells, `gap` points wide, in the colour `ground`."""
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(frame.to_numpy(dtype=np.float64)),
        cmap=colour_map(colours),
        vmin=limits[0],
        vmax=limits[1],
        linewidths=gap,
        edgecolors=ground,
    )
    axes.set(xlim=(0, frame.shape[1]), ylim=(frame.shape[0], 0))
    _bare(axes)
    return mesh


def _bare(axes: Axes) -> None:
    axes.spines[:].set_visible(False)
    axes.set(xticks=[], yticks=[])


def write_values(axes: Axes, mesh: QuadMesh, frame: pd.DataFrame, size: float) -> None:
    """Write the values of a heat map into its cells with two digits, at a size in points."""
    mesh.update_scalarmappable()
    values = frame.to_numpy(dtype=np.float64)
    for (row, column), colour in zip(np.ndindex(values.shape), mesh.get_facecolor(), strict=True):
        value = values[row, column]
        if np.isfinite(value):
            ink = "0.15" if _luminance(colour) > _BRIGHT else "w"
            centre = (column + 0.5, row + 0.5)
            axes.text(*centre, f"{value:.2f}", color=ink, ha="center", va="center", fontsize=size)


def _luminance(colour: Any) -> float:
    """Relative luminance of a colour, float64 [4], as the WCAG define it."""
    rgb = np.asarray(colour)[:3]
    linear = np.where(rgb <= 0.03928, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
