"""What profiles and results both store of a sample: pictures, regions, visual tokens."""

import pyarrow as pa

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
