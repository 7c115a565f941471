"""Preparation of smaller pictures, which become fewer visual tokens, for each family."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL.Image import Image, Resampling
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from tokenlens.errors import ModelError

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Shrunk:
    """Shrunk pictures, and the image processor's settings for their preparation."""

    images: Sequence[Image]
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Shrinking:
    """How the pictures of a family are shrunk.

    Attributes:
        pictures: a function from the model's configuration, the image processor's settings,
            pictures and a share in (0, 1) to the pictures at that share of their visual tokens, as
            near as whole rows and columns allow.
        interpolated: a function from the model to the tower whose position embeddings must be
            interpolated for smaller pictures; None where the tower takes any size.
    """

    pictures: Callable[[PreTrainedConfig, Settings, Sequence[Image], float], Shrunk]
    interpolated: Callable[[PreTrainedModel], nn.Module | None]


def nearest_grid(rows: int, columns: int, share: float) -> tuple[int, int]:
    """The grid within `rows` x `columns` whose size is nearest to `share` of it.

    Both sides shrink by the same factor, each rounded down or up to a whole number. Only where one
    side would be less than one is the other longer. Ties go to the grid nearest in shape.

    >>> nearest_grid(12, 12, 1 / 3), nearest_grid(12, 12, 2 / 9), nearest_grid(1, 30, 0.5)
    ((7, 7), (5, 6), (1, 15))
    """
    goal, scale = share * rows * columns, math.sqrt(share)
    tall, wide = rows * scale, columns * scale
    if tall < 1:
        tall, wide = 1.0, goal
    elif wide < 1:
        tall, wide = goal, 1.0
    found = [
        (min(rows, max(1, high)), min(columns, max(1, long)))
        for high in (math.floor(tall), math.ceil(tall))
        for long in (math.floor(wide), math.ceil(wide))
    ]
    shape = math.log(rows / columns)

    def misfit(grid: tuple[int, int]) -> tuple[float, float]:
        high, long = grid
        return round(abs(high * long - goal), 9), round(abs(math.log(high / long) - shape), 9)

    return min(found, key=misfit)


_LIMITS = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}
"""Names by which a user may set what Qwen's processors call the edges of `size`; they go first."""


def _resizes(settings: Settings) -> bool:
    """Whether the processor itself resizes pictures."""
    return settings.get("do_resize") is not False


def _resized(image: Image, grid: tuple[int, int], side: int, settings: Settings) -> Image:
    """A picture in the pixels of a grid (rows, columns) of tokens of `side` pixels."""
    resample = settings.get("resample")
    filter_ = Resampling.BICUBIC if resample is None else Resampling(int(resample))
    return image.resize((grid[1] * side, grid[0] * side), filter_)


def merged_pictures(
    config: PreTrainedConfig, settings: Settings, images: Sequence[Image], share: float
) -> Shrunk:
    """Shrink for Qwen's towers, which take any grid; the processor must not enlarge it again."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    vision: Any = config.vision_config
    side = vision.patch_size * vision.spatial_merge_size
    given = {key: settings[key] for key in _LIMITS if settings.get(key) is not None}
    least, most = (given.get(key, settings["size"][edge]) for key, edge in _LIMITS.items())
    smaller = []
    for image in images:
        height, width = image.height, image.width
        if _resizes(settings):
            height, width = smart_resize(height, width, side, least, most)
        grid = nearest_grid(max(1, height // side), max(1, width // side), share)
        smaller.append(_resized(image, grid, side, settings))
    limits = dict(zip(_LIMITS, (side**2, most), strict=True))
    size = {edge: limits[key] for key, edge in _LIMITS.items()}
    return Shrunk(smaller, {"size": size, **{key: limits[key] for key in given}})


def broken_pictures(
    config: PreTrainedConfig, settings: Settings, images: Sequence[Image], share: float
) -> Shrunk:
    """Shrink for Pixtral's tower, which takes any grid up to the longest edge."""
    any_config: Any = config
    side = any_config.vision_config.patch_size * getattr(config, "spatial_merge_size", 1)
    smaller = []
    for image in images:
        ratio = 1.0
        if _resizes(settings):
            ratio = max(ratio, max(image.size) / settings["size"]["longest_edge"])
        columns, rows = (
            math.ceil((length if ratio == 1 else int(length / ratio)) / side)
            for length in image.size
        )
        smaller.append(_resized(image, nearest_grid(rows, columns, share), side, settings))
    return Shrunk(smaller)


def cropped_pictures(
    config: PreTrainedConfig, settings: Settings, images: Sequence[Image], share: float
) -> Shrunk:
    """Shrink for LLaVA-1.5: the square has fewer rows and columns and is cropped as usual."""
    vision: Any = config.vision_config
    if vision.model_type == "pixtral":
        return broken_pictures(config, settings, images, share)
    across = vision.image_size // vision.patch_size
    fewer = min(range(1, across + 1), key=lambda side: abs(side**2 - share * across**2))

    def scaled(lengths: Mapping[str, int | None]) -> dict[str, int]:
        return {
            name: round(length * fewer / across)
            for name, length in lengths.items()
            if length is not None
        }

    sizes = ("size", "crop_size")
    if not _resizes(settings):
        raise ModelError(
            "image_scale: this model's processor does not resize pictures (do_resize is false), so "
            "a smaller square would only be cut out of them; set do_resize, or shrink the pictures "
            "yourself"
        )
    return Shrunk(images, {name: scaled(settings[name]) for name in sizes if settings.get(name)})


def any_size(_: PreTrainedModel) -> None:
    """None, for towers that take pictures of any size."""
    return


def fixed_positions(model: PreTrainedModel) -> nn.Module | None:
    """LLaVA-1.5's tower (CLIP or SigLIP), with one position embedding per patch of the square."""
    tower: Any = model.base_model.vision_tower
    return None if tower.config.model_type == "pixtral" else tower
