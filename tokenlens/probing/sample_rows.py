"""What profiles and results both store of a sample: its picture, its region, its visual tokens."""

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
"""`image` is the picture's path or its address inside another file, empty for one in memory; `size`
its width and height in pixels; `region_boxes` and `polygons` are in pixels; of several pictures
these four are those of the first. `positions` (in the prompt without padding) and `boxes` (xyxy,
shares of the width and height of its own picture, flattened) are of the visual tokens."""


def sample_row(sample: Sample, size: tuple[int, int], layout: Layout) -> dict[str, Any]:
    """The values of `SAMPLE_COLUMNS`, for a sample whose picture is `size` (width, height)."""
    return {
        "id": sample.id,
        "task": sample.task,
        "question": sample.question,
        "answers": list(sample.answers),
        "image": picture_address(sample.image),
        "size": size,
        "region_boxes": sample.boxes_of(0),
        "polygons": sample.polygons,
        "positions": layout.positions.numpy(),
        "boxes": layout.boxes.flatten().numpy(),
        "grid": layout.grid,
    }


def picture_address(image: Path | StoredPicture | Image) -> str:
    """Where a picture lies; empty for one in memory."""
    if isinstance(image, StoredPicture):
        return image.address
    return "" if isinstance(image, Image) else str(image)
