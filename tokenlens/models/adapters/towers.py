"""Vision towers of the families: the attention module to read, and the patches of each token.

VisionZip (arXiv 2412.04467) reads "layer -2", the second-to-last layer of the tower.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Tower:
    """How to read a model's vision tower.

    A view is what the tower processes as one sequence: a picture, or a tile of one.

    Attributes:
        module: the tower.
        attention: the module that calls the attention function, in the layer that is read.
        class_tokens: number of tokens before the patches of a view; the first one's attention row
            is the patches' importance. Without any, importance is the mean of all rows.
        tokens: a function from the values of every view's patches, in order, floats [patches,
            numbers], and from the tower's arguments by name, to the values of every visual token:
            [tokens, numbers].
    """

    module: nn.Module
    attention: nn.Module
    class_tokens: int
    tokens: Callable[[Sequence[Tensor], Mapping[str, Any]], Tensor]


def no_tower(_: PreTrainedModel) -> None:
    """None, for families whose towers are not read."""
    return


def _each_patch(views: Sequence[Tensor], _: Mapping[str, Any]) -> Tensor:
    """A patch is a token."""
    return torch.cat(list(views))


def _runs(views: Sequence[Tensor], _: Mapping[str, Any], *, length: int) -> Tensor:
    """Tokens of `length` consecutive patches: the mean of their values."""
    tokens: Tensor = torch.cat(list(views)).unflatten(0, (-1, length)).mean(1)
    return tokens


def _squares(views: Sequence[Tensor], _: Mapping[str, Any], *, side: int) -> Tensor:
    """Tokens of `side` x `side` patches, in square views: the mean of their values.

    >>> _squares([torch.arange(16.0)[:, None]], {}, side=2).flatten().tolist()
    [2.5, 4.5, 10.5, 12.5]
    """
    stacked = torch.stack(list(views))
    across = math.isqrt(stacked.shape[1]) // side
    cells = stacked.unflatten(1, (across, side, across, side))
    tokens: Tensor = cells.mean((2, 4)).flatten(0, 2)
    return tokens


def stacked_tower(model: PreTrainedModel) -> Tower | None:
    """CLIP's tower, with a class token, or SigLIP's without: every patch is a token.

    None for others (Pixtral's processes all pictures of a batch as one sequence).
    """
    tower: Any = model.base_model.vision_tower
    kinds = {"clip_vision_model": 1, "siglip_vision_model": 0}
    if tower.config.model_type not in kinds:
        return None
    before = kinds[tower.config.model_type]
    return Tower(tower, tower.encoder.layers[-2].self_attn, before, _each_patch)


def averaged_tower(model: PreTrainedModel) -> Tower:
    """Gemma3: SigLIP's tower; squares of its patches are averaged."""
    tower: Any = model.base_model.vision_tower
    patches = model.config.vision_config.image_size // model.config.vision_config.patch_size
    side = patches // math.isqrt(model.config.mm_tokens_per_image)
    attention = tower.encoder.layers[-2].self_attn
    return Tower(tower, attention, 0, partial(_squares, side=side))


def shuffled_tower(model: PreTrainedModel) -> Tower:
    """InternVL: each tile has a class token; squares of its patches are concatenated."""
    tower: Any = model.base_model.vision_tower
    side = round(1 / model.config.downsample_ratio)
    return Tower(tower, tower.encoder.layer[-2].attention, 1, partial(_squares, side=side))


def scaled_tower(model: PreTrainedModel) -> Tower:
    """Idefics3 and SmolVLM: tiles without a class token, patches as in InternVL."""
    tower: Any = model.base_model.vision_model
    side = model.config.scale_factor
    return Tower(tower, tower.encoder.layers[-2].self_attn, 0, partial(_squares, side=side))


def merging_tower(model: PreTrainedModel) -> Tower:
    """Qwen2-VL and Qwen3-VL: no class token; the patches of a square are consecutive."""
    tower: Any = model.base_model.visual
    length = model.config.vision_config.spatial_merge_size**2
    return Tower(tower, tower.blocks[-2].attn, 0, partial(_runs, length=length))


def windowed_tower(model: PreTrainedModel) -> Tower:
    """Qwen2.5-VL: as Qwen2-VL, but most blocks attend within windows, which order the tokens.

    Attention within a window cannot be compared with that of other windows, and the second-to-last
    block is windowed: the last block with attention over whole pictures is read instead.
    """
    tower: Any = model.base_model.visual
    vision = model.config.vision_config
    whole = tower.blocks[max(vision.fullatt_block_indexes)]
    return Tower(tower, whole.attn, 0, partial(_unwindowed, vision=vision))


def _unwindowed(views: Sequence[Tensor], call: Mapping[str, Any], *, vision: Any) -> Tensor:
    from transformers.vision_utils import get_vision_window_index

    merge = vision.spatial_merge_size
    tokens = _runs(views, call, length=merge**2)
    order, _ = get_vision_window_index(
        call["grid_thw"], merge, vision.window_size, vision.patch_size
    )
    return tokens[order.to(tokens.device).argsort()]
