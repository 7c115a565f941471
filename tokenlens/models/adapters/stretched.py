"""Layout of families that stretch a picture onto a grid: the boxes are the grid's cells."""

import math

from tokenlens.models.adapters.adapter import AdapterContext, PictureTokens
from tokenlens.models.adapters.boxes import cell_boxes, grid_boxes, spans


def merged_grids(given: AdapterContext) -> list[PictureTokens]:
    """Qwen's towers: `merge` x `merge` patches of the resized picture form a token.

    Both sides are stretched to a multiple of the token's side, so a token's share of the original
    picture is its cell of the grid, whatever the picture's size.
    """
    return _merged(given, "image_grid_thw")


def merged_frames(given: AdapterContext) -> list[PictureTokens]:
    """Qwen's videos: the same grid in every frame; one frame here is two frames of the video."""
    return _merged(given, "video_grid_thw")


def _merged(given: AdapterContext, key: str) -> list[PictureTokens]:
    merge = given.config.vision_config.spatial_merge_size
    grids = [(t, h // merge, w // merge) for t, h, w in given[key].tolist()]
    return [PictureTokens((t, h, w), grid_boxes(h, w).repeat(t, 1)) for t, h, w in grids]


def pixtral_rows(given: AdapterContext) -> list[PictureTokens]:
    """Pixtral's tower: as many patches as the picture needs, merged in Mistral3.

    The break token after a row has another id and no visual feature: it counts as text.
    """
    side = given.config.vision_config.patch_size * getattr(given.config, "spatial_merge_size", 1)
    grids = [(h // side, w // side) for h, w in given["image_sizes"].tolist()]
    return [PictureTokens((1, rows, columns), grid_boxes(rows, columns)) for rows, columns in grids]


def square_grid(given: AdapterContext) -> list[PictureTokens]:
    """A picture stretched onto the tower's square, as in PaliGemma and Gemma3.

    Gemma3 averages neighbouring patches down to `mm_tokens_per_image`. Its pan and scan, off by
    default, would make further pictures of crops.
    """
    vision = given.config.vision_config
    patches = vision.image_size // vision.patch_size
    pooled = getattr(given.config, "mm_tokens_per_image", None)
    side = patches if pooled is None else math.isqrt(pooled)
    along = spans(side, patches // side * vision.patch_size, vision.image_size)
    tokens = PictureTokens((1, side, side), cell_boxes(along, along))
    return [tokens] * len(given["pixel_values"])
