"""A map in block characters, for a terminal."""

from __future__ import annotations

import numpy as np

from .token_raster import rasterise

_SHADES = " ░▒▓█"
_TALL = 2.1
"""Ratio of a character's height to its width."""


def block_map(
    boxes: np.ndarray, values: np.ndarray, size: tuple[int, int], columns: int = 44
) -> list[str]:
    """Lines of block characters for `values` [n], from 0 to their maximum, on a square-root scale.

    `boxes` [n, 4] are what the tokens cover, normalised xyxy, of a picture of `size` (width,
    height).

    >>> boxes = np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]])
    >>> block_map(boxes, np.array([0.1, 0.4]), (40, 10), columns=8)
    ['▒▒▒▒████']
    """
    raster = np.nan_to_num(rasterise(boxes, values))
    height = max(1, round(columns * size[1] / size[0] / _TALL))
    rows = ((np.arange(height) + 0.5) * raster.shape[0] / height).astype(int)
    across = ((np.arange(columns) + 0.5) * raster.shape[1] / columns).astype(int)
    top = float(raster.max()) or 1.0
    shares = np.sqrt(raster[np.ix_(rows, across)].clip(0) / top)
    levels = np.rint(shares * (len(_SHADES) - 1)).astype(int)
    return ["".join(_SHADES[level] for level in line) for line in levels]
