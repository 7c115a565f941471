"""Where the visual tokens of each sample stand, and what they cover of its pictures."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenlens.errors import ModelError, UnknownLayoutWarning
from tokenlens.models.adapters import ADAPTERS, Given, PictureTokens, find_adapter


@dataclass(frozen=True)
class Layout:
    """The visual tokens of one sample: where they stand and what they cover.

    Attributes:
        positions: int64 [n_visual], places in the (padded) sequence, ascending.
        boxes: float32 [n_visual, 4], xyxy as shares of the original picture's width and height. A
            token that sees nothing of it (a newline, mere padding) has a box without area. All
            not-a-number for a family without an adapter.
        image_index: int64 [n_visual], which picture of the sample the token belongs to; all -1 for
            a family without an adapter.
        grid: (frames, rows, columns) of visual tokens in the finest view, one per picture of the
            sample; for a family without an adapter one row of them all.
    """

    positions: Tensor
    boxes: Tensor
    image_index: Tensor
    grid: tuple[tuple[int, int, int], ...]

    @property
    def placed(self) -> bool:
        """Whether it is known what the visual tokens cover."""
        return not bool(self.boxes.isnan().any())


def find_layouts(given: Given, mask: Tensor) -> list[Layout]:
    """The layout of every sample, `mask` (bool [batch, length]) saying which tokens are visual.

    Raises `ModelError` where pictures and visual tokens disagree. For a family without an adapter
    warns with `UnknownLayoutWarning`.
    """
    adapter = find_adapter(given.config)
    if adapter is None:
        _warn_unknown(given.config.model_type)
        return [_flat_layout(row.nonzero().flatten()) for row in mask]
    pictures = adapter.pictures(given) if mask.any() else []
    if given.sizes is not None and mask.any() and len(given.sizes) != len(pictures):
        raise ModelError(
            f"the inputs hold {len(pictures)} pictures but there are {len(given.sizes)} sizes; "
            "give the (width, height) of each"
        )
    expected = sum(len(picture.boxes) for picture in pictures)
    if expected != int(mask.sum()):
        raise ModelError(
            f"the inputs hold {int(mask.sum())} visual tokens but their pictures make "
            f"{expected}; make them with prepare(...)"
        )
    left = iter(pictures)
    return [_sample_layout(row.nonzero().flatten(), left) for row in mask]


def _warn_unknown(model_type: str) -> None:
    known = ", ".join(adapter.family for adapter in ADAPTERS.values())
    warnings.warn(
        f"model type {model_type!r} has no adapter: its visual tokens are known, but not what they "
        f"cover of a picture. Profiles, pruning and answers work; regions and overlays need one of "
        f"{known}",
        UnknownLayoutWarning,
        stacklevel=4,
    )


def _flat_layout(positions: Tensor) -> Layout:
    count = len(positions)
    return Layout(
        positions=positions,
        boxes=torch.full((count, 4), torch.nan),
        image_index=torch.full((count,), -1, dtype=torch.int64),
        grid=((1, 1, count),),
    )


def _sample_layout(positions: Tensor, left: Iterator[PictureTokens]) -> Layout:
    """Take from `left` the pictures that fill `positions`, the visual tokens of one sample."""
    pictures: list[PictureTokens] = []
    filled = 0
    while filled < len(positions):
        pictures.append(next(left))
        filled += len(pictures[-1].boxes)
    if filled > len(positions):
        raise ModelError(
            f"a sample holds {len(positions)} visual tokens but its pictures make {filled}; make "
            "the inputs with prepare(...)"
        )
    counts = torch.tensor([len(picture.boxes) for picture in pictures], dtype=torch.int64)
    return Layout(
        positions=positions,
        boxes=torch.cat([torch.empty(0, 4), *(picture.boxes for picture in pictures)]),
        image_index=torch.repeat_interleave(torch.arange(len(pictures)), counts),
        grid=tuple(picture.grid for picture in pictures),
    )
