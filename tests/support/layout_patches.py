"""Bright patches on grey pictures: which visual tokens they move, and which boxes they touch.

A patch's edges stay away from every box's edges by the reach of the resizing, so that what touches
a box also shows in its pixels, and what does not touch it cannot.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from tests.support.layout_families import Family
from tokenlens.models.layout import Layout
from tokenlens.models.structure import decoder
from tokenlens.models.vlm import VLM

Size = tuple[int, int]
Rectangle = tuple[int, int, int, int]
QUESTION = "where is the star ?"


def grey(size: Size) -> Image.Image:
    return Image.new("RGB", size, (90, 90, 90))


def brightened(size: Size, patch: Rectangle) -> Image.Image:
    picture = grey(size)
    ImageDraw.Draw(picture).rectangle((patch[0], patch[1], patch[2] - 1, patch[3] - 1), "white")
    return picture


def embeddings(vlm: VLM, inputs: Any) -> Tensor:
    """What the decoder gets: [batch, length, hidden]."""

    def stop(_: nn.Module, __: Any, kwargs: dict[str, Any]) -> None:
        raise _Reached(kwargs["inputs_embeds"])

    handle = decoder(vlm.model).register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with torch.no_grad():
            vlm.model(**inputs)
    except _Reached as reached:
        return reached.embeddings
    finally:
        handle.remove()
    raise AssertionError("the decoder was not reached")


class _Reached(Exception):  # noqa: N818 - no error: the rest of the model is not needed
    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.embeddings = embeddings


def moved(before: Tensor, after: Tensor) -> list[list[int]]:
    """For every sample, the positions whose embeddings differ."""
    return [row.nonzero().flatten().tolist() for row in (before != after).any(dim=-1)]


def touched(layout: Layout, size: Size, patch: Rectangle, image: int = 0) -> list[int]:
    """Positions of the tokens of one picture whose boxes share area with the patch."""
    boxes = layout.boxes.double() * torch.tensor([*size, *size])
    low = torch.maximum(boxes[:, :2], torch.tensor(patch[:2]))
    high = torch.minimum(boxes[:, 2:], torch.tensor(patch[2:]))
    shared = (high - low > 1e-3).all(dim=-1)
    return layout.positions[shared & (layout.image_index == image)].tolist()


def random_patches(
    family: Family,
    layout: Layout,
    size: Size,
    count: int,
    image: int = 0,
    *,
    inside: bool = False,
) -> list[Rectangle]:
    """Patches whose edges are clear of all boxes' edges, or (unless `inside`) the picture's own."""
    generator = np.random.default_rng([*size, image])
    boxes = layout.boxes[layout.image_index == image].double().numpy()
    inside = inside or family.pads_first
    columns = _clear_places(family, boxes[:, 0::2] * size[0], size[0], inside)
    rows = _clear_places(family, boxes[:, 1::2] * size[1], size[1], inside)

    def pair(places: Sequence[int]) -> list[int]:
        return sorted(generator.choice(places, 2, replace=False).tolist())

    patches = []
    for _ in range(count):
        (left, right), (top, bottom) = pair(columns), pair(rows)
        patches.append((left, top, right, bottom))
    return patches


def _clear_places(family: Family, spans: np.ndarray, length: int, inside: bool) -> list[int]:
    """Whole pixels along a side that the resizing keeps apart from every edge of `spans` [n, 2]."""
    lengths = spans[:, 1] - spans[:, 0]
    inner = lengths[(spans[:, 0] > 1e-3) & (spans[:, 1] < length - 1e-3)]
    # A box that the picture's border cuts had the length of one that it does not.
    full = np.array([min(inner[inner >= one - 1e-3], default=one) for one in lengths])
    reach = family.passes * np.maximum(1, full / family.token_px) + 1
    places = np.arange(1, length)
    clear = (np.abs(places[:, None, None] - spans) >= reach[:, None] - 1e-6).all(axis=(1, 2))
    assert clear.sum() > 1, f"no room for a patch along {length} pixels"
    found = places[clear].tolist()
    return found if inside else [0, *found, length]
