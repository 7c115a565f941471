"""Manifest rows with several pictures: which picture each of their boxes belongs to."""

from typing import Any

from tokenlens.errors import SampleError

_FORMS = "[index, x0, y0, x1, y1] with the picture counted from 0, or one list of boxes per picture"


def split_pictures(row: dict[str, Any]) -> tuple[dict[str, Any], list[str], tuple[int, ...]]:
    """A row with `images` as one with `image`, its further pictures, and the picture of each box.

    Raises `SampleError` for `image` beside `images`, a list that is empty or holds no paths, boxes
    that do not say their picture or name one that is not there, and outlines or anchors, which are
    of one picture.

    >>> split_pictures({"images": ["a.png", "b.png"], "boxes": [[1, 0, 0, 5, 5]]})
    ({'boxes': [[0, 0, 5, 5]], 'image': 'a.png'}, ['b.png'], (1,))
    """
    images = row["images"]
    if "image" in row:
        raise SampleError("image, images: both are given; expected one of them")
    if not isinstance(images, list) or not images:
        raise SampleError("images: expected a list of at least one path of a picture")
    for index, image in enumerate(images):
        if not isinstance(image, str) or not image.strip() or "\0" in image:
            raise SampleError(f"images[{index}]: expected the path of a picture")
    for field in ("polygons", "anchors"):
        if row.get(field) and len(images) > 1:
            raise SampleError(f"{field}: taken with one picture only; expected boxes for several")
    rest = {key: value for key, value in row.items() if key not in ("images", "boxes")}
    boxes, of_picture = _split_boxes(row.get("boxes", []), len(images))
    return {**rest, "boxes": boxes, "image": images[0]}, images[1:], of_picture


def _split_boxes(boxes: Any, count: int) -> tuple[list[Any], tuple[int, ...]]:
    if not isinstance(boxes, list) or not all(isinstance(box, list) for box in boxes):
        raise SampleError(f"boxes: expected {_FORMS}")
    if boxes and all(isinstance(part, list) for box in boxes for part in box):
        if len(boxes) != count:
            raise SampleError(
                f"boxes: got {len(boxes)} lists for {count} pictures; expected one each"
            )
        pairs = [(index, box) for index, own in enumerate(boxes) for box in own]
    else:
        pairs = [_indexed(place, box, count) for place, box in enumerate(boxes)]
    return [box for _, box in pairs], tuple(index for index, _ in pairs)


def _indexed(place: int, box: list[Any], count: int) -> tuple[int, list[Any]]:
    if len(box) == 4 and count == 1:
        return 0, box
    if len(box) != 5:
        raise SampleError(f"boxes[{place}]: expected {_FORMS}")
    index = box[0]
    if type(index) is not int or not 0 <= index < count:
        raise SampleError(
            f"boxes[{place}]: the first number names no picture; expected 0 to {count - 1}"
        )
    return index, box[1:]
