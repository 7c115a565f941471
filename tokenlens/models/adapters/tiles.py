"""Layout of InternVL, Idefics3 and SmolVLM: a picture stretched over tiles, then an overview."""

import math

import numpy as np
import torch
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas
from transformers.models.idefics3.image_processing_pil_idefics3 import get_resize_output_image_size

from tokenlens.models.adapters.adapter import AdapterContext, PictureTokens
from tokenlens.models.adapters.boxes import cell_boxes, spans


def internvl_tiles(given: AdapterContext) -> list[PictureTokens]:
    """InternVL: the grid of tiles nearest in shape; each token joins a square of patches."""
    vision = given.config.vision_config
    tile, patch = _side(vision.image_size), _side(vision.patch_size)
    cell = round(patch / given.config.downsample_ratio)
    fewest, most = given.setting("min_patches"), given.setting("max_patches")
    split = given.setting("crop_to_patches") and most > 1
    return [
        _over_tiles(
            get_optimal_tiled_canvas((height, width), (tile, tile), fewest, most)
            if split
            else (1, 1),
            tile,
            cell,
        )
        for width, height in given.known_sizes()
    ]


def idefics3_tiles(given: AdapterContext) -> list[PictureTokens]:
    """Idefics3 and SmolVLM: the longest edge is resized, then both sides to whole tiles."""
    tile = given.setting("max_image_size")["longest_edge"]
    cell = given.config.vision_config.patch_size * given.config.scale_factor
    return [
        _over_tiles(_idefics3_split(given, size, tile), tile, cell) for size in given.known_sizes()
    ]


def _idefics3_split(given: AdapterContext, size: tuple[int, int], tile: int) -> tuple[int, int]:
    """Columns and rows of tiles: the longer side is rounded, the shorter keeps the shape."""
    if not given.setting("do_image_splitting"):
        return 1, 1
    width, height = size
    if given.setting("do_resize"):
        shape = np.broadcast_to(0, (1, height, width))
        height, width = get_resize_output_image_size(shape, given.setting("size")["longest_edge"])
    ratio = width / height
    if width >= height:
        columns = math.ceil(width / tile)
        return columns, math.ceil(int(columns * tile / ratio) / tile)
    rows = math.ceil(height / tile)
    return math.ceil(int(rows * tile * ratio) / tile), rows


def _over_tiles(counts: tuple[int, int], tile: int, cell: int) -> PictureTokens:
    """The tokens of `counts` (columns, rows) tiles, then of an overview if there are several tiles.

    A tile of `tile` pixels holds tokens of `cell` pixels.
    """
    side = tile // cell
    views = [(column, row, *counts) for row in range(counts[1]) for column in range(counts[0])]
    if len(views) > 1:
        views.append((0, 0, 1, 1))
    boxes = [
        cell_boxes(
            spans(side, cell, tile * columns, tile * column),
            spans(side, cell, tile * rows, tile * row),
        )
        for column, row, columns, rows in views
    ]
    return PictureTokens((1, counts[1] * side, counts[0] * side), torch.cat(boxes))


def _side(size: int | list[int] | tuple[int, int]) -> int:
    """The side of a square, which some configurations give as a pair."""
    return size if isinstance(size, int) else size[0]
