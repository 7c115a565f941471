"""The values that profiles and results both store of a sample, made of it and of its layout."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from tokenlens.models.layout import Layout
from tokenlens.probing.sample_columns import SEVERAL_COLUMNS
from tokenlens.samples.pictures import StoredPicture
from tokenlens.samples.sample import Sample


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
