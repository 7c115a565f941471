"""A sheet of picture tiles, shared by the analyses that draw on pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from PIL import Image

from tokenlens.samples.sample import Box

from .canvas import root_figure
from .style import PAGE, Theme, shorten, themed

Outline = Sequence[tuple[float, float]]
"""Corners (x, y) in pixels of the picture."""

REGION = "#3ddcff"
"""Colour of the outlines of regions; it differs from all colours of the maps."""
_GAP, _HEADING, _CAPTION = 0.05, 0.26, 0.17


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


def region_outlines(boxes: Iterable[Box], polygons: Iterable[Outline]) -> list[Outline]:
    """The outlines of a region of ground-truth boxes and polygons, in pixels."""
    return [*(box_outline(*box) for box in boxes), *polygons]


def box_outline(x0: float, y0: float, x1: float, y1: float) -> Outline:
    """The corners of a box, clockwise from the top left."""
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def plot_sheet(
    strips: Sequence[Strip], *, columns: int, ax: Axes | None, theme: Theme, foot: float = 0
) -> Figure:
    """Strips below each other, `columns` tiles a row, `foot` inches left free at the bottom.

    Drawn on `ax`, with its units as inches, or on a figure of its own.
    """
    side = (PAGE + _GAP) / columns - _GAP
    tops, bottom = [], 0.0
    for strip in strips:
        rows = -(-len(strip.tiles) // columns)
        height = side * strip.size[1] / max(strip.size)
        tops.append(bottom)
        bottom += _HEADING + rows * (_CAPTION + height + _GAP) + 0.1
    with themed(theme):
        sheet = Figure(figsize=(PAGE, bottom + foot)).add_axes((0, 0, 1, 1)) if ax is None else ax
        sheet.set_axis_off()
        for strip, top in zip(strips, tops, strict=True):
            zoom = side / max(strip.size)
            width, height = (length * zoom for length in strip.size)
            sheet.text(0, top + 0.16, shorten(strip.title, 90), fontsize=8.5, fontweight="bold")
            for index, tile in enumerate(strip.tiles):
                x = (side + _GAP) * (index % columns)
                y = top + _HEADING + _CAPTION + (_CAPTION + height + _GAP) * (index // columns)
                extent = (x, x + width, y + height, y)
                sheet.imshow(tile.image, extent=extent, aspect="auto", interpolation="none")
                for corners, colour in tile.outlines:
                    points = [(x + u * zoom, y + v * zoom) for u, v in corners]
                    outline = Polygon(points, fill=False, edgecolor=colour, linewidth=0.9)
                    sheet.add_patch(outline)
                for u, v in tile.dots:
                    sheet.plot(x + u * zoom, y + v * zoom, "o", color="white", markersize=2)
                sheet.text(
                    x,
                    y - 0.04,
                    tile.caption,
                    fontsize=7,
                    fontweight="bold" if tile.marked else "normal",
                    color=theme.accent if tile.marked else theme.ink,
                )
        sheet.set(xlim=(0, PAGE), ylim=(bottom + foot, 0))
    return root_figure(sheet)
