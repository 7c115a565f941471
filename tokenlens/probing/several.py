"""What a profile stores of a sample with several pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tokenlens.measures.regions import region_tokens
from tokenlens.models.layout import Layout
from tokenlens.probing.sample_rows import picture_address
from tokenlens.samples.sample import Sample

SEVERAL_COLUMNS: dict[str, pa.DataType] = {
    "more_images": pa.list_(pa.string()),
    "image_index": pa.list_(pa.int64()),
    "region": pa.list_(pa.bool_()),
}
"""All null for a sample with one picture, and absent from profiles of before 0.3."""


def several_columns(
    sample: Sample, sizes: Sequence[tuple[int, int]], layout: Layout
) -> dict[str, Any]:
    """The values of `SEVERAL_COLUMNS`; `sizes` are (width, height) of the sample's pictures.

    The region is found in each picture by itself, among the tokens of that picture. It is empty for
    a family without an adapter, whose tokens belong to no known picture.
    """
    if not sample.more_images:
        return dict.fromkeys(SEVERAL_COLUMNS)
    region = np.zeros(len(layout.positions), dtype=np.bool_)
    for index, size in enumerate(sizes):
        own = (layout.image_index == index).numpy()
        boxes = sample.boxes_of(index)
        if boxes and own.any():
            region[own] = region_tokens(layout.boxes.numpy()[own], size, boxes)
    return {
        "more_images": [picture_address(image) for image in sample.more_images],
        "image_index": layout.image_index.tolist(),
        "region": region.tolist(),
    }
