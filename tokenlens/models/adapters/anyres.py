"""Layout of LLaVA-NeXT and LLaVA-OneVision: an overview, then unpadded tiles of the picture."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
from transformers.image_utils import ChannelDimension

from tokenlens.models.adapters.adapter import AdapterContext, PictureTokens
from tokenlens.models.adapters.boxes import cell_boxes, spans, with_newlines


def next_tiles(given: AdapterContext) -> list[PictureTokens]:
    """LLaVA-NeXT: every picture is tiled."""
    sizes = given["image_sizes"].tolist()
    return [_tiled(given.config, (height, width), math.inf) for height, width in sizes]


def onevision_tiles(given: AdapterContext) -> list[PictureTokens]:
    """LLaVA-OneVision: tiled where a sample has one picture, else padded to a square each.

    More tokens than those of `anyres_max_N` tiles are interpolated down to that number; an
    interpolated token covers all tokens it is mixed from, so neighbours overlap.
    """
    sizes = given["image_sizes"].tolist()
    counts = given.inputs.get("batch_num_images")
    alone = [True] * len(sizes) if counts is None else [n == 1 for n in counts for _ in range(n)]
    most = int(given.config.vision_aspect_ratio.removeprefix("anyres_max_"))
    return [
        _tiled(given.config, (height, width), most)
        if tiled
        else _squared(given.config, (height, width))
        for (height, width), tiled in zip(sizes, alone, strict=True)
    ]


def _tiled(config: Any, size: tuple[int, int], most: float) -> PictureTokens:
    """An overview stretched onto one tile, then the tiles' rows, each with a newline token."""
    from transformers.models.llava_next.modeling_llava_next import unpad_image

    tile, patch = config.vision_config.image_size, config.vision_config.patch_size
    best = select_best_resolution(size, config.image_grid_pinpoints)
    shown = get_patch_output_size(np.broadcast_to(0, (1, *size)), best, ChannelDimension.FIRST)
    y, x = (_tile_spans(tile, patch, *lengths) for lengths in zip(best, shown, strict=True))
    # The model's own rule for removing rows or columns of padding, applied to their numbers.
    places = torch.arange(len(y) * len(x)).reshape(1, len(y), len(x))
    left = unpad_image(places, size)[0]
    y, x = y[left[:, 0] // len(x)], x[left[0] % len(x)]
    ratio = math.sqrt(len(y) * len(x) / (most * (tile // patch) ** 2))
    if ratio > 1.1:  # the model's own threshold
        y, x = (_interpolated(along, int(len(along) // ratio)) for along in (y, x))
    over = spans(tile // patch, patch, tile)
    detail = with_newlines(cell_boxes(x, y), len(x))
    return PictureTokens((1, len(y), len(x)), torch.cat([cell_boxes(over, over), detail]))


def _tile_spans(tile: int, patch: int, canvas: int, shown: int) -> Tensor:
    """Intervals [n, 2] of a picture centred on the canvas that the patches along one side cover."""
    margin = (canvas - shown) // 2
    starts = range(-margin, canvas - margin, tile)
    return torch.cat([spans(tile // patch, patch, shown, start) for start in starts])


def _interpolated(along: Tensor, count: int) -> Tensor:
    """Intervals that `count` bilinear samples of intervals [n, 2] are mixed from: [count, 2]."""
    centres = (torch.arange(count, dtype=torch.float64) + 0.5) * len(along) / count - 0.5
    first = centres.clamp(min=0).add(1e-6).floor().long()
    last = centres.clamp(min=0).sub(1e-6).ceil().long().clamp(0, len(along) - 1)
    return torch.stack([along[first, 0], along[last, 1]], dim=-1)


def _squared(config: Any, size: tuple[int, int]) -> PictureTokens:
    """One of several pictures: padded to a square around its middle; a newline token ends it."""
    tile, patch = config.vision_config.image_size, config.vision_config.patch_size
    longest = max(size)
    scale = longest / tile
    y, x = (
        spans(tile // patch, patch * scale, length, -((longest - length) // 2)) for length in size
    )
    boxes = cell_boxes(x, y)
    return PictureTokens((1, len(y), len(x)), torch.cat([boxes, boxes[-1:, [2, 1, 2, 3]]]))
