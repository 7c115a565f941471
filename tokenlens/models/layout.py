"""Layout of each sample's visual tokens: their positions, and the boxes they cover."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tokenlens.errors import ModelError, UnknownLayoutWarning
from tokenlens.models.adapters import ADAPTERS, AdapterContext, PictureTokens, find_adapter
from tokenlens.registry import drawing

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Layout:
    """The visual tokens of one sample: their positions, and the boxes they cover.

    Attributes:
        positions: int64 [n_visual], positions in the (padded) sequence, ascending.
        boxes: float32 [n_visual, 4], xyxy as shares of the original picture's width and height. A
            token that covers nothing of it (a newline, padding) has a box without area. All NaN for
            a family without an adapter.
        image_index: int64 [n_visual], the picture or video of the sample that the token belongs to,
            numbered in the order in which they begin; all -1 for a family without an adapter.
        grid: (frames, rows, columns) of visual tokens in the finest view, one per picture or video
            of the sample; for a family without an adapter one row of all tokens.
    """

    positions: Tensor
    boxes: Tensor
    image_index: Tensor
    grid: tuple[tuple[int, int, int], ...]

    @property
    def frame(self) -> Tensor:
        """The frame of its video that each token belongs to, counted from 0: int64 [n_visual].

        0 for a token of a picture. Qwen's towers join two frames of the video in one.
        """
        frames = torch.zeros_like(self.image_index)
        for index, (count, _, _) in enumerate(self.grid):
            own = (self.image_index == index).nonzero().flatten()
            frames[own] = torch.arange(len(own)) * count // max(1, len(own))
        return frames

    @property
    def placed(self) -> bool:
        """Whether the boxes of the visual tokens are known."""
        return not bool(self.boxes.isnan().any())

    def to_dataframe(self) -> "pd.DataFrame":
        """One line for every visual token: visual (from 0), position, image, frame, x0 … y1."""
        frame: pd.DataFrame = drawing("layout frame")(self)
        return frame

    def plot(self, *, image: int = 0, picture: Any = None, ax: Any = None) -> Any:
        """Draw what the tokens of one picture cover, and return its Matplotlib figure.

        Args:
            image: which picture of the sample, counted from 0.
            picture: to draw on, a PIL picture or array [height, width, 3].
            ax: Matplotlib axes to draw on; None for a new figure.
        """
        return drawing("layout map")(self, image=image, picture=picture, ax=ax)

    def _repr_html_(self) -> str:
        html: str = drawing("layout page")(self)
        return html


def find_layouts(given: AdapterContext, mask: Tensor, videos: Tensor) -> list[Layout]:
    """The layout of every sample.

    Args:
        given: input of the family's adapter.
        mask: bool [batch, length], which tokens are visual.
        videos: bool [batch, length], which of them belong to videos.

    Raises `ModelError` where the numbers of visual tokens in pictures and prompt differ, and for
    videos of a family whose video layout is not known. For a family without an adapter warns with
    `UnknownLayoutWarning`.
    """
    adapter = find_adapter(given.config)
    if adapter is None:
        _warn_unknown(given.config.model_type)
        return [_flat_layout(row.nonzero().flatten()) for row in mask]
    stills = mask & ~videos
    pictures = adapter.pictures(given) if stills.any() else []
    if given.sizes is not None and stills.any() and len(given.sizes) != len(pictures):
        raise ModelError(
            f"the inputs hold {len(pictures)} pictures but there are {len(given.sizes)} sizes; "
            "give the (width, height) of each"
        )
    if videos.any() and adapter.videos is None:
        raise ModelError(
            f"the inputs hold a video, whose layout is not known for {adapter.family}; the probe "
            "and the engine work without one"
        )
    films = adapter.videos(given) if adapter.videos is not None and videos.any() else []
    _check_counts("visual tokens but their pictures", stills, pictures)
    _check_counts("visual tokens of videos but their videos", videos, films)
    left, rolling = iter(pictures), iter(films)
    return [
        _joined(
            _sample_layout(row.nonzero().flatten(), left),
            _sample_layout(film.nonzero().flatten(), rolling),
        )
        for row, film in zip(stills, videos, strict=True)
    ]


def _check_counts(what: str, tokens: Tensor, found: list[PictureTokens]) -> None:
    expected, held = sum(len(one.boxes) for one in found), int(tokens.sum())
    if expected != held:
        raise ModelError(
            f"the inputs hold {held} {what} make {expected}; make them with prepare(...)"
        )


def _joined(pictures: Layout, videos: Layout) -> Layout:
    """The layout of a sample with pictures and videos, in the order in which they begin."""
    if not len(videos.positions):
        return pictures
    grids = (*pictures.grid, *videos.grid)
    positions = torch.cat([pictures.positions, videos.positions])
    index = torch.cat([pictures.image_index, videos.image_index + len(pictures.grid)])
    begins = torch.tensor([int(positions[index == one].min()) for one in range(len(grids))])
    order, ranks = positions.argsort(), begins.argsort().argsort()
    return Layout(
        positions=positions[order],
        boxes=torch.cat([pictures.boxes, videos.boxes])[order],
        image_index=ranks[index][order],
        grid=tuple(grids[one] for one in begins.argsort().tolist()),
    )


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
