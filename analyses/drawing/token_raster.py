"""Rasters of per-token values over the picture that the tokens cover."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tokenlens.errors import TokenlensError
from tokenlens.samples.pictures import as_rgb

if TYPE_CHECKING:
    from tokenlens.models.layout import Layout

_FINE = 192
"""Pixels along the longer side of a raster for tokens that are not on one grid."""


def rasterise(boxes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Raster of per-token values [..., n] over the picture: float64 [..., height, width].

    `boxes` [n, 4] are the areas of the tokens, normalised xyxy. Tokens on one grid give one pixel
    each; others (crops and an overview) get a finer raster. A pixel has the mean of all tokens that
    cover it, or NaN without any. Tokens without area (newlines, padding) cover no pixel.

    >>> boxes = np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1], [1, 0, 1, 1]])
    >>> rasterise(boxes, np.array([1.0, 2.0, 9.0]))
    array([[1., 2.]])
    """
    places, (width, height) = corners(boxes)
    total = np.zeros((*values.shape[:-1], height, width))
    count = np.zeros((height, width))
    for token, (x0, y0, x1, y1) in enumerate(places):
        total[..., y0:y1, x0:x1] += values[..., token, None, None]
        count[y0:y1, x0:x1] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def corners(boxes: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """The pixels of a raster that each token covers: int64 [n, 4], xyxy; its width and height.

    >>> corners(np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1], [1, 0, 1, 1]]))
    (array([[0, 0, 1, 1],
           [1, 0, 2, 1],
           [0, 0, 0, 0]]), (2, 1))
    """
    found = np.zeros(boxes.shape, dtype=np.int64)
    seen = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    boxes = boxes[seen]
    if len(boxes) == 0:
        return found, (1, 1)
    spans = np.median(boxes[:, 2:] - boxes[:, :2], axis=0)
    across, down = (max(1, round(1 / float(span))) for span in spans)
    places = boxes * [across, down, across, down]
    on_grid = np.allclose(places, np.rint(places), atol=0.02)
    zoom = 1 if on_grid else -(-_FINE // max(across, down))
    width, height = across * zoom, down * zoom
    found[seen] = np.rint(boxes * [width, height, width, height])
    return found, (width, height)


def picture_tokens(
    layout: Layout, image: int, error: type[TokenlensError], whose: str
) -> tuple[np.ndarray, str]:
    """The tokens of one picture, bool [n], and which of several it is, for a title.

    Raises `error` where `whose` pictures, counted from 0, do not have `image`.
    """
    count = max(1, len(layout.grid))
    if not 0 <= image < count:
        raise error(f"image: got {image}, expected 0 to {count - 1} of {whose}")
    of_image = f", picture {image + 1} of {count}" if count > 1 else ""
    return layout.image_index.numpy() == image, of_image


def square_boxes(count: int) -> np.ndarray:
    """Boxes float64 [count, 4] for tokens whose places are not known: row by row in a square.

    >>> square_boxes(3)[:, :2].tolist()
    [[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]]
    """
    side = max(1, int(np.ceil(np.sqrt(count))))
    rows, columns = np.divmod(np.arange(count), side)
    boxes: np.ndarray = np.stack([columns, rows, columns + 1, rows + 1], axis=1) / side
    return boxes


def displayed(picture: Any) -> np.ndarray:
    """The pixels to draw tokens on, of a PIL picture or an array [height, width, 3].

    A PIL picture is RGB and turned as its EXIF orientation says: so the model gets it, and to it
    the boxes of tokens belong.
    """
    return np.asarray(as_rgb(picture) if isinstance(picture, Image.Image) else picture)


def shrunk(picture: Image.Image, side: int = 150) -> Image.Image:
    """A copy with at most `side` pixels along the longer side."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def lay_over(picture: Image.Image, colours: np.ndarray) -> Image.Image:
    """The picture under colours, uint8 [height, width, 4] (RGBA), not smoothed between them."""
    layer = Image.fromarray(colours).resize(picture.size, Image.Resampling.NEAREST)
    return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")


def few_colours(picture: Image.Image, count: int = 48) -> Image.Image:
    """The picture in at most `count` colours, which takes a third of the space in a file.

    The octree keeps rare colours, such as a map's one brightest token.
    """
    octree, plain = Image.Quantize.FASTOCTREE, Image.Dither.NONE
    return picture.quantize(count, method=octree, dither=plain).convert("RGB")
