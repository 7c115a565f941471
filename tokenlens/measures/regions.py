"""Visual tokens that a ground-truth region covers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_HALF = 0.5 - 1e-6
"""Half, less what float32 boxes lose."""


def region_tokens(
    boxes: ArrayLike,
    size: tuple[float, float],
    region_boxes: Sequence[Sequence[float]],
    polygons: Sequence[Sequence[Sequence[float]]] = (),
) -> NDArray[np.bool_]:
    """The visual tokens of which the region covers at least half.

    Args:
        boxes: float [n_visual, 4], the box of each token, xyxy as shares of the picture's size.
        size: width and height of the picture in pixels.
        region_boxes: xyxy in pixels; together they cover their union.
        polygons: vertices (x, y) in pixels, such as the parts of a segmentation, which are assumed
            not to overlap.

    Returns:
        bool [n_visual]. A token is in the region where the boxes together, or the polygons
        together, cover at least half of it. Where no token is covered that far, the region is the
        most covered one (ties to the lower position); where none is covered at all, it is empty.

    >>> halves = [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]
    >>> region_tokens(halves, (100, 50), [(0, 0, 60, 50)]).tolist()
    [True, False]
    >>> region_tokens(halves, (100, 50), [(60, 10, 70, 20)]).tolist()
    [False, True]
    """
    cells = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * np.tile(size, 2)
    covered = np.zeros(len(cells))
    if len(region_boxes):
        covered = _box_areas(cells, np.asarray(region_boxes, dtype=np.float64))
    if len(polygons):
        covered = np.maximum(covered, sum(_polygon_areas(cells, part) for part in polygons))
    areas = (cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])
    share = np.divide(covered, areas, out=np.zeros_like(covered), where=areas > 0)
    region: NDArray[np.bool_] = share >= _HALF
    if not region.any() and share.any():
        region[share.argmax()] = True
    return region


def _box_areas(
    cells: NDArray[np.float64], region_boxes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Area of each cell [n, 4] that the union of `region_boxes` [k, 4] covers.

    The edges of all boxes cut the plane into rectangles, each inside the union or outside.
    """
    xs, ys = np.unique(region_boxes[:, 0::2]), np.unique(region_boxes[:, 1::2])
    left, top, right, bottom = region_boxes.T[:, :, None]
    columns = (left <= xs[:-1]) & (xs[1:] <= right)
    rows = (top <= ys[:-1]) & (ys[1:] <= bottom)
    inside = columns.T.astype(np.float64) @ rows > 0
    widths = _overlaps(cells[:, 0::2], xs)
    heights = _overlaps(cells[:, 1::2], ys)
    areas: NDArray[np.float64] = ((widths @ inside) * heights).sum(axis=1)
    return areas


def _overlaps(spans: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Length [n, k - 1] that each span [n, 2] shares with each interval between `edges` [k]."""
    clipped = np.clip(edges, spans[:, :1], spans[:, 1:])
    return np.diff(clipped, axis=1)


def _polygon_areas(
    cells: NDArray[np.float64], polygon: Sequence[Sequence[float]]
) -> NDArray[np.float64]:
    """Area of each cell [n, 4] that the polygon covers, exactly.

    The area between an edge and the bottom of the cell, within the cell, is the integral of a
    clipped line: linear between four knots. Signed and summed around the polygon, what lies outside
    it cancels.
    """
    start = np.asarray(polygon, dtype=np.float64)
    end = np.roll(start, -1, axis=0)
    left, bottom, right, top = cells.T[:, :, None]
    run, rise = (end - start).T
    slope = np.divide(rise, run, out=np.zeros_like(rise), where=run != 0)
    first = np.clip(np.minimum(start[:, 0], end[:, 0]), left, right)
    last = np.clip(np.maximum(start[:, 0], end[:, 0]), left, right)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = [start[:, 0] + (level - start[:, 1]) / slope for level in (bottom, top)]
    inner = [np.clip(np.nan_to_num(crossing), first, last) for crossing in crossings]
    knots = np.stack([first, np.minimum(*inner), np.maximum(*inner), last])
    heights = np.clip(start[:, 1] + (knots - start[:, 0]) * slope, bottom, top) - bottom
    integrals = (np.diff(knots, axis=0) * (heights[1:] + heights[:-1]) / 2).sum(axis=0)
    areas: NDArray[np.float64] = np.abs((integrals * np.sign(run)).sum(axis=1))
    return areas
