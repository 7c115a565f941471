"""One declarative adapter per model family: only what really differs between families.

To add a family, write one function that says which part of its picture every visual token covers,
and one entry in `ADAPTERS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from tokenlens.errors import ModelError
from tokenlens.models.aliases import BUNDLED, HUB_IDS


@dataclass(frozen=True)
class PictureTokens:
    """The visual tokens of one picture, in the order in which they stand in the prompt.

    Attributes:
        grid: (frames, rows, columns) of visual tokens.
        boxes: float32 [tokens, 4], xyxy as shares of the original picture's width and height.
    """

    grid: tuple[int, int, int]
    boxes: Tensor


@dataclass(frozen=True)
class Adapter:
    """What tokenlens must know about a family.

    Attributes:
        family: the name people use.
        model_type: `config.model_type`, by which the adapter is found.
        architecture: the Hugging Face class.
        pictures: from the configuration and the prepared inputs to the visual tokens of every
            picture, in order, over the whole batch.
    """

    family: str
    model_type: str
    architecture: str
    pictures: Callable[[PreTrainedConfig, Mapping[str, Any]], list[PictureTokens]]


def grid_boxes(rows: int, columns: int) -> Tensor:
    """The cells of a grid over a picture, row by row: float32 [rows * columns, 4], xyxy in 0..1.

    >>> grid_boxes(1, 2).tolist()
    [[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]
    """
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    corners = torch.stack([x, y, x + 1, y + 1], dim=-1).reshape(-1, 4)
    return corners / torch.tensor([columns, rows, columns, rows], dtype=torch.float32)


def _merged_grids(config: PreTrainedConfig, inputs: Mapping[str, Any]) -> list[PictureTokens]:
    """Qwen's towers: `merge` x `merge` patches of the resized picture make a token.

    Both sides are stretched to a multiple of the token's side, so a token's share of the original
    picture is its cell of the grid, whatever the picture's size.
    """
    merge = config.vision_config.spatial_merge_size
    grids = [(t, h // merge, w // merge) for t, h, w in inputs["image_grid_thw"].tolist()]
    return [PictureTokens((t, h, w), grid_boxes(h, w).repeat(t, 1)) for t, h, w in grids]


ADAPTERS: dict[str, Adapter] = {
    adapter.model_type: adapter
    for adapter in (
        Adapter("Qwen2-VL", "qwen2_vl", "Qwen2VLForConditionalGeneration", _merged_grids),
        Adapter("Qwen2.5-VL", "qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", _merged_grids),
    )
}


def find_adapter(config: PreTrainedConfig) -> Adapter:
    """The adapter of a configuration's family. Raises `ModelError` for a family without one."""
    if config.model_type not in ADAPTERS:
        known = ", ".join(f"{adapter.family} ({key})" for key, adapter in ADAPTERS.items())
        raise ModelError(
            f"the visual layout of model type {config.model_type!r} is unknown: expected one of "
            f"{known}; probing and pruning work on it without a layout"
        )
    return ADAPTERS[config.model_type]


def support_table() -> list[dict[str, str]]:
    """One row per family with its bundled models and the aliases of its hub ids, for printing."""
    architectures = {adapter.family: adapter.architecture for adapter in ADAPTERS.values()}
    return [
        {
            "family": family,
            "architecture": architectures.get(family, "-"),
            "visual layout": "yes" if family in architectures else "no",
            "bundled": ", ".join(name for name, of in BUNDLED.items() if of == family) or "-",
            "alias": "\n".join(aliases),
            "hub id": "\n".join(aliases.values()),
        }
        for family, aliases in HUB_IDS.items()
    ]
