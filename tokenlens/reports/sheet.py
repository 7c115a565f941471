"""The sheet of a sample: all its pictures side by side, with the places of their visual tokens.

Visual tokens of all pictures compete with each other, so maps show them together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Any, Self, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from tokenlens.analyses.drawing.picture_sheet import Outline, region_outlines
from tokenlens.probing.profile import ProfileRow
from tokenlens.probing.stored_rows import stored_sizes
from tokenlens.reports.overlays import read_picture

Stored: TypeAlias = "ProfileRow | pd.Series"
"""A sample as a profile has it, or as results have it."""
_IN_A_ROW = 3
_TALLEST = 800
"""Pixels of the height of each picture on a sheet, at most."""
_WIDEST_GAP = 0.12
"""Between two pictures, as a share of their height; one token's width where that is less."""
_GROUND = "#d5d9e0"
"""Unlike the black of tokens that are gone."""


@dataclass(frozen=True)
class Sheet:
    """Where a sample's pictures lie on its sheet.

    Attributes:
        size: width and height of the sheet in pixels; those of the picture where there is one.
        frames: float64 [pictures, 4], xyxy as shares of the sheet.
    """

    size: tuple[int, int]
    frames: NDArray[np.float64]

    @classmethod
    def of(cls, row: Stored) -> Self:
        """The sheet of a sample with at least one picture."""
        sizes = _sizes(row)
        if len(sizes) == 1:
            return cls(sizes[0], np.array([[0.0, 0.0, 1.0, 1.0]]))
        frames = _arranged([width / height for width, height in sizes], _gaps(row, sizes[0]))
        wide, high = frames[:, 2].max(), frames[:, 3].max()
        tall = min(_TALLEST, max(height for _, height in sizes))
        return cls((round(wide * tall), round(high * tall)), frames / [wide, high, wide, high])

    @property
    def wide(self) -> bool:
        """Whether pictures side by side need a larger tile than one picture does."""
        return len(self.frames) > 1 and self.size[0] > self.size[1]

    @property
    def columns(self) -> int:
        """How many tiles of it a figure has in a row, at most."""
        return 4 if self.wide else 7

    def boxes(self, row: Stored) -> NDArray[Any]:
        """The places of visual tokens on the sheet: xyxy as shares of it, [n_visual, 4]."""
        own: NDArray[Any] = np.reshape(_get(row, "boxes"), (-1, 4))
        if len(self.frames) == 1:
            return own
        frames = self.frames[np.asarray(_get(row, "image_index"), dtype=np.int64)]
        placed: NDArray[Any] = frames[:, [0, 1, 0, 1]] + own * np.tile(_extents(frames), 2)
        return placed

    def outlines(self, row: Stored) -> list[Outline]:
        """The outlines of the region, in pixels of the sheet."""
        boxes, polygons = _get(row, "region_boxes"), _get(row, "polygons")
        if len(self.frames) == 1:
            return region_outlines(boxes, polygons)
        placed = []
        for box, owner in zip(boxes, _get(row, "box_images"), strict=True):
            frame = self.frames[owner]
            shares = np.asarray(box, dtype=np.float64) / np.tile(_sizes(row)[owner], 2)
            corners = frame[[0, 1, 0, 1]] + shares * np.tile(_extents(frame[None])[0], 2)
            x0, y0, x1, y1 = map(float, corners * np.tile(self.size, 2))
            placed.append((x0, y0, x1, y1))
        return region_outlines(placed, ())

    def picture(self, row: Stored) -> tuple[Image.Image, str | None]:
        """The pictures on the sheet, and why one cannot be read; it is grey then."""
        images, sizes = _images(row), _sizes(row)
        if len(images) == 1:
            return read_picture(images[0], sizes[0])
        sheet, reason = Image.new("RGB", self.size, _GROUND), None
        for image, size, frame in zip(images, sizes, self.frames, strict=True):
            picture, missing = read_picture(image, size)
            reason = reason or missing
            x0, y0, x1, y1 = map(round, map(float, frame * np.tile(self.size, 2)))
            sheet.paste(picture.resize((x1 - x0, y1 - y0), Image.Resampling.LANCZOS), (x0, y0))
        return sheet, reason

    def placed(self, row: Stored) -> Any:
        """The row as one of a single picture, which is the sheet."""
        boxes = self.boxes(row)
        if isinstance(row, ProfileRow):
            return replace(row, boxes=boxes, image_index=None, more_images=(), more_sizes=())
        return {**row, "boxes": boxes.ravel(), "image_index": None}


def _arranged(aspects: Sequence[float], gaps: tuple[float, float]) -> NDArray[np.float64]:
    """Frames of pictures of height 1, xyxy, in rows from the top left."""
    columns = len(aspects) if len(aspects) <= _IN_A_ROW else ceil(sqrt(len(aspects)))
    frames, left = [], 0.0
    for place, aspect in enumerate(aspects):
        left = left if place % columns else 0.0
        top = (place // columns) * (1 + gaps[1])
        frames.append((left, top, left + aspect, top + 1))
        left += aspect + gaps[0]
    return np.array(frames)


def _gaps(row: Stored, size: tuple[int, int]) -> tuple[float, float]:
    """Width and height between pictures of height 1: a token of the first one, if that is little.

    The tokens of pictures of one size then lie on one grid.
    """
    boxes = np.reshape(_get(row, "boxes"), (-1, 4))
    sides = boxes[:, 2:] - boxes[:, :2]
    seen = sides[(sides > 0).all(axis=1)]
    across, down = np.median(seen, axis=0) if len(seen) else (1.0, 1.0)
    width, height = float(across) * size[0] / size[1], float(down)
    return min(width, _WIDEST_GAP), min(height, _WIDEST_GAP)


def _extents(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Widths and heights of frames [n, 4]: [n, 2]."""
    extents: NDArray[np.float64] = frames[:, 2:] - frames[:, :2]
    return extents


def _get(row: Stored, name: str) -> Any:
    return getattr(row, name) if isinstance(row, ProfileRow) else row[name]


def _sizes(row: Stored) -> list[tuple[int, int]]:
    return [row.size, *row.more_sizes] if isinstance(row, ProfileRow) else stored_sizes(row)


def _images(row: Stored) -> list[str]:
    more = _get(row, "more_images")
    return [_get(row, "image"), *([] if more is None else more)]
