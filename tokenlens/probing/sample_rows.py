"""What profiles and results both store of a sample: pictures, regions, visual tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL.Image import Image

from tokenlens.models.layout import Layout
from tokenlens.samples.pictures import StoredPicture
from tokenlens.samples.sample import Sample

SAMPLE_COLUMNS: dict[str, pa.DataType] = {
    "id": pa.string(),
    "task": pa.string(),
    "question": pa.string(),
    "answers": pa.list_(pa.string()),
    "image": pa.string(),
    "size": pa.list_(pa.int32()),
    "region_boxes": pa.list_(pa.list_(pa.float64())),
    "polygons": pa.list_(pa.list_(pa.list_(pa.float64()))),
    "positions": pa.list_(pa.int64()),
    "boxes": pa.list_(pa.float32()),
    "grid": pa.list_(pa.list_(pa.int32())),
}
"""`image` is the first picture's path or its address inside another file, empty for one in memory;
`size` its width and height in pixels, zeros where there is no picture; `region_boxes` and
`polygons` are in pixels; `positions` (in the prompt without padding) and `boxes` (xyxy, shares of
the width and height of the token's own picture, flattened) are of the visual tokens."""
SEVERAL_COLUMNS: dict[str, pa.DataType] = {
    "more_images": pa.list_(pa.string()),
    "more_sizes": pa.list_(pa.list_(pa.int32())),
    "box_images": pa.list_(pa.int32()),
    "image_index": pa.list_(pa.int64()),
}
"""The pictures after the first and their sizes; the picture of each of `region_boxes` and of each
visual token, counted from 0. All null for a sample of one picture; runs of before 0.2 lack them."""


def sample_row(sample: Sample, sizes: Sequence[tuple[int, int]], layout: Layout) -> dict[str, Any]:
    """The values of `SAMPLE_COLUMNS`, for a sample whose pictures are `sizes` (width, height)."""
    return {
        "id": sample.id,
        "task": sample.task,
        "question": sample.question,
        "answers": list(sample.answers),
        "image": _address(sample.image),
        "size": sizes[0] if sizes else (0, 0),
        "region_boxes": sample.boxes,
        "polygons": sample.polygons,
        "positions": layout.positions.numpy(),
        "boxes": layout.boxes.flatten().numpy(),
        "grid": layout.grid,
    }


def several_row(sample: Sample, sizes: Sequence[tuple[int, int]], layout: Layout) -> dict[str, Any]:
    """The values of `SEVERAL_COLUMNS`."""
    if not sample.more_images:
        return dict.fromkeys(SEVERAL_COLUMNS)
    return {
        "more_images": [_address(image) for image in sample.more_images],
        "more_sizes": sizes[1:],
        "box_images": sample.box_images,
        "image_index": layout.image_index.numpy(),
    }


def _address(image: Path | StoredPicture | Image | None) -> str:
    if isinstance(image, StoredPicture):
        return image.address
    return "" if image is None or isinstance(image, Image) else str(image)
