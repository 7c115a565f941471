"""The pictures of a manifest row: one, several, the frames of a video, or none."""

from pathlib import PurePath
from typing import Any

from tokenlens.errors import SampleError
from tokenlens.samples.sample import quoted

_FORMS = "[index, x0, y0, x1, y1] with the picture counted from 0, or one list of boxes per picture"


_LONGEST_PATH = 4096
"""Characters of a picture's path, as Linux has it."""
_VIDEOS = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
_FRAMES = "video files are not read; give the video's pictures in their order, as frames"


def split_pictures(row: dict[str, Any]) -> tuple[dict[str, Any], list[str], tuple[int, ...]]:
    """A row with `images` or `frames` as one with `image`, further pictures, each box's picture.

    A row with `image`, or without pictures, is returned as it is.

    Raises `SampleError` for two of the keys at once, a list that is empty or holds no paths, boxes
    that do not say their picture or name one that is not there, outlines or anchors beside several
    pictures, and the files of videos.

    >>> split_pictures({"images": ["a.png", "b.png"], "boxes": [[1, 0, 0, 5, 5]]})
    ({'boxes': [[0, 0, 5, 5]], 'image': 'a.png'}, ['b.png'], (1,))
    """
    if found := {"video", "videos"} & row.keys():
        raise SampleError(f"{min(found)}: {_FRAMES}")
    given = [key for key in ("image", "images", "frames") if key in row]
    if len(given) > 1:
        raise SampleError(f"{', '.join(given)}: given together, expected one of them")
    if not given or given == ["image"]:
        return row, [], ()
    key = given[0]
    images = _paths(key, row[key])
    for field in ("polygons", "anchors"):
        if row.get(field) and len(images) > 1:
            raise SampleError(f"{field}: taken with one picture only; expected boxes for several")
    rest = {name: value for name, value in row.items() if name not in (key, "boxes")}
    boxes, of_picture = _split_boxes(row.get("boxes", []), len(images))
    return {**rest, "boxes": boxes, "image": images[0]}, images[1:], of_picture


def path_problem(path: Any) -> str | None:
    """Why a value is not the path of a picture, or None."""
    if not isinstance(path, str) or not path.strip() or "\0" in path or len(path) > _LONGEST_PATH:
        return f"got {quoted(path)}, expected the path of a picture"
    if PurePath(path).suffix.lower() in _VIDEOS:
        return f"got {quoted(path)}; {_FRAMES}"
    return None


def _paths(key: str, images: Any) -> list[str]:
    if not isinstance(images, list) or not images:
        raise SampleError(f"{key}: expected a list of at least one path of a picture")
    for index, image in enumerate(images):
        if problem := path_problem(image):
            raise SampleError(f"{key}[{index}]: {problem}")
    return images


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
