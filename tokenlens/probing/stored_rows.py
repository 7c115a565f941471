"""What a stored row of a profile or of results says of its pictures; read without a model."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenlens.measures.regions import region_tokens


def stored_sizes(row: Mapping[str, Any]) -> list[tuple[int, int]]:
    """(width, height) of all pictures of a stored row."""
    more = row.get("more_sizes")
    return [
        (int(width), int(height))
        for width, height in [row["size"], *([] if more is None else more)]
    ]


def stored_region(row: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The visual tokens of a stored row that its ground truth covers: bool [n_visual].

    A token is compared with the boxes of its own picture only. Of several pictures of a family
    without an adapter, whose tokens belong to no known picture, none is covered.
    """
    boxes = np.reshape(row["boxes"], (-1, 4))
    index, sizes = row.get("image_index"), stored_sizes(row)
    given, outlines = (
        [list(map(float, box)) for box in row["region_boxes"]],
        _lists(row["polygons"]),
    )
    if index is None:
        return region_tokens(boxes, sizes[0], given, outlines)
    region = np.zeros(len(boxes), dtype=np.bool_)
    for picture, size in enumerate(sizes):
        own = np.asarray(index) == picture
        of_it = [
            box for box, owner in zip(given, row["box_images"], strict=True) if owner == picture
        ]
        region[own] = region_tokens(boxes[own], size, of_it)
    return region


def _lists(polygons: Any) -> list[list[tuple[float, float]]]:
    return [[(float(x), float(y)) for x, y in outline] for outline in polygons]
