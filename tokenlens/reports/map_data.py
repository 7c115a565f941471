"""Maps of attention as a page stores them, and the colours it paints them in."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenlens.analyses.drawing.token_raster import corners
from tokenlens.analyses.importance_maps import GLOW

COARSE, FINE = 255, 65535
"""Steps that a map's values are stored in: 8 bits or 16."""


def quantised(
    maps: NDArray[np.float32], levels: int = COARSE
) -> tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.float64]]:
    """Maps [..., n] in whole steps, each by its own maximum, and these maxima [...].

    A value is its step times the maximum, over `levels`: off by at most half of that.

    >>> steps, tops = quantised(np.array([[0.0, 0.1, 0.5]], dtype=np.float32))
    >>> steps.tolist(), tops.tolist()
    ([[0, 51, 255]], [0.5])
    """
    tops = maps.max(axis=-1, initial=0).astype(np.float64)
    digits = 5 if levels == COARSE else 9
    tops = np.array([float(f"{top:.{digits}g}") for top in tops.ravel()]).reshape(tops.shape)
    scaled = maps / np.where(tops > 0, tops, 1)[..., None] * levels
    steps = np.rint(scaled).clip(0, levels)
    return steps.astype("<u1" if levels == COARSE else "<u2"), tops


def map_data(
    maps: NDArray[np.float32], words: Sequence[str], levels: int = COARSE
) -> dict[str, Any]:
    """Maps [words, layers, 1 + heads, n_visual], the mean of the heads first, as JSON values."""
    steps, tops = quantised(maps, levels)
    return {
        "layers": maps.shape[1],
        "heads": maps.shape[2] - 1,
        "words": list(words),
        "levels": levels,
        "tops": tops.ravel().tolist(),
        "maps": base64.b64encode(steps.tobytes()).decode(),
    }


def places(boxes: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """What visual tokens [n_visual, 4] cover, as pixels of a raster over the picture."""
    covered, size = corners(boxes)
    return {"raster": list(size), "corners": covered.tolist()}


def painted(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Colours of values 0 to 1: uint8 [height, width, 4], RGBA; not-a-number is transparent."""
    colours = GLOW(np.nan_to_num(values))
    colours[..., 3] = np.where(np.isnan(values), 0, colours[..., 3])
    pixels: NDArray[np.uint8] = np.round(colours * 255).astype(np.uint8)
    return pixels


def palette() -> str:
    """The 256 colours of a map, RGBA, as Base64."""
    return base64.b64encode(painted(np.linspace(0, 1, 256)[None]).tobytes()).decode()
