"""A sheet of picture tiles, shared by the analyses that draw on pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from tokenlens.samples.sample import Box

from .canvas import root_figure
from .style import Theme, fit, legend_columns, themed

Outline = Sequence[tuple[float, float]]
"""Corners (x, y) in pixels of the picture."""

REGION = "#3ddcff"
"""The colour regions are outlined in, unlike any colour of the maps."""
ON_A_SHEET = "put them on one sheet first, with tokenlens.reports.sheet.Sheet"
"""What to do with a sample that is refused by what draws on one picture."""
DOTS: dict[str, Any] = {
    "marker": "o",
    "color": "white",
    "markersize": 2.2,
    "markeredgecolor": "black",
    "markeredgewidth": 0.4,
    "linestyle": "none",
}
"""How dots are drawn."""
_GAP, _HEADING, _CAPTION, _LINE = 0.05, 0.26, 0.17, 0.1
_LEGEND = 0.17
"""Inches of a line of the legend."""
_LEAST_TILE = 1.0


@dataclass(frozen=True)
class Tile:
    """One picture of a strip; outlines are (corners, colour) and dots (x, y), in pixels."""

    image: Image.Image
    caption: str
    marked: bool = False
    outlines: Sequence[tuple[Outline, str]] = ()
    dots: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Strip:
    """Tiles about one sample, whose picture has `size` (width, height) in pixels."""

    title: str
    size: tuple[int, int]
    tiles: Sequence[Tile]


def frame_entry(colour: str, label: str) -> Line2D:
    """An entry of a legend for an outline: an empty square."""
    return Line2D(
        [],
        [],
        linestyle="none",
        marker="s",
        markersize=6,
        markerfacecolor="none",
        markeredgecolor=colour,
        label=label,
    )


def region_outlines(boxes: Iterable[Box], polygons: Iterable[Outline]) -> list[Outline]:
    """The outlines of a region of ground-truth boxes and polygons, in pixels."""
    return [*(box_outline(*box) for box in boxes), *polygons]


def box_outline(x0: float, y0: float, x1: float, y1: float) -> Outline:
    """The corners of a box, clockwise from the top left."""
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def outer_edges(boxes: np.ndarray) -> list[Outline]:
    """Edges, as pairs of corners, around boxes [n, 4] (xyxy); none where two boxes meet in full.

    >>> len(outer_edges(np.array([[0, 0, 1, 1], [1, 0, 2, 1]])))
    6
    """
    seen: Counter[Outline] = Counter()
    for x0, y0, x1, y1 in np.round(boxes, 2).tolist():
        seen[(x0, y0), (x1, y0)] += 1
        seen[(x0, y1), (x1, y1)] += 1
        seen[(x0, y0), (x0, y1)] += 1
        seen[(x1, y0), (x1, y1)] += 1
    return [edge for edge, count in seen.items() if count == 1]


def plot_sheet(
    strips: Sequence[Strip],
    *,
    columns: int,
    ax: Axes | None,
    theme: Theme,
    legend: Sequence[Artist] = (),
    foot: float = 0,
) -> Figure:
    """Strips below each other, `columns` tiles a row at most, and a legend below them all.

    `foot` inches are left free at the bottom. A caption has as many lines as the longest one.

    Drawn on `ax`, with its units as inches, or on a figure of its own.
    """
    columns = theme.across(_LEAST_TILE, columns)
    side = (theme.width + _GAP) / columns - _GAP
    captions = [tile.caption for strip in strips for tile in strip.tiles]
    caption_height = _CAPTION + _LINE * max(caption.count("\n") for caption in captions)
    names = [str(entry.get_label()) for entry in legend]
    ncols = legend_columns(names, theme)
    under = _LEGEND * -(-len(names) // ncols) + 0.05 if names else 0.0
    tops, bottom = [], 0.0
    for strip in strips:
        rows = -(-len(strip.tiles) // columns)
        height = side * strip.size[1] / max(strip.size)
        tops.append(bottom)
        bottom += _HEADING + rows * (caption_height + height + _GAP) + 0.1
    with themed(theme):
        total = bottom + under + foot
        sheet = Figure(figsize=(theme.width, total)).add_axes((0, 0, 1, 1)) if ax is None else ax
        sheet.set_axis_off()
        sheet.set(xticks=[], yticks=[])  # else they are made, though not shown
        for strip, top in zip(strips, tops, strict=True):
            zoom = side / max(strip.size)
            title = fit(strip.title, theme.width, 8.5)
            sheet.text(0, top + 0.16, title, fontsize=8.5, fontweight="bold")
            for index, tile in enumerate(strip.tiles):
                y = top + _HEADING + caption_height
                y += (caption_height + strip.size[1] * zoom + _GAP) * (index // columns)
                place = ((side + _GAP) * (index % columns), y)
                _add_tile(sheet, tile, strip.size, place, side, theme)
        sheet.set(xlim=(0, theme.width), ylim=(total, 0))
        if names:
            sheet.legend(
                handles=list(legend),
                ncols=ncols,
                loc="upper left",
                bbox_to_anchor=(0, bottom),
                bbox_transform=sheet.transData,
                borderaxespad=0,
                borderpad=0,
            )
    return root_figure(sheet)


def _add_tile(
    sheet: Axes,
    tile: Tile,
    size: tuple[int, int],
    place: tuple[float, float],
    side: float,
    theme: Theme,
) -> None:
    """A tile of a picture of `size`, with its top left corner at `place`, in inches."""
    zoom = side / max(size)
    width, height = (length * zoom for length in size)
    extent = (place[0], place[0] + width, place[1] + height, place[1])
    sheet.imshow(tile.image, extent=extent, aspect="auto", interpolation="none")
    lines = [np.array([*corners, corners[0]]) * zoom + place for corners, _ in tile.outlines]
    colours = [colour for _, colour in tile.outlines]
    sheet.add_collection(
        LineCollection(lines, colors=colours, linewidths=0.9, capstyle="projecting"), autolim=False
    )
    if tile.dots:
        sheet.plot(*(np.array(tile.dots) * zoom + place).T, **DOTS)
    sheet.text(
        place[0],
        place[1] - 0.04,
        "\n".join(fit(line, side, 6.5) for line in tile.caption.split("\n")),
        fontsize=6.5,
        linespacing=1.1,
        fontweight="bold" if tile.marked else "normal",
        color=theme.accent if tile.marked else theme.ink,
    )
