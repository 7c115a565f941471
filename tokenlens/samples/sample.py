"""One question about one picture, with its answers and the regions they are read from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tokenlens.errors import SampleError
from tokenlens.samples.pictures import StoredPicture, as_rgb, open_picture

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the picture as displayed, origin at the top left."""
Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y) in pixels of the picture as displayed."""

_SUMMARIES = ("all", "macro")
_ROUNDING = 0.5
"""Pixels by which a region may overshoot the picture: data sets round."""


@dataclass(frozen=True)
class Sample:
    """A question about a picture.

    Attributes:
        id: unique within its data set.
        image: path of the picture, a picture kept inside another file, or the picture itself.
        question: what is asked, as the model gets it.
        answers: those that count as right.
        task: kind of question; scores are taken per task.
        boxes: ground truth, xyxy in pixels of the picture as displayed.
        polygons: ground truth outlines, in the same pixels.
        anchors: boxes of things the question mentions but does not ask for.
        metric: what scores the answer (a name of `evaluation.metrics.METRICS`); empty for the
            metric of the task.
        group: samples of one group count together where a benchmark says so, such as a question in
            all orders of its options; empty for a sample that stands alone.

    Raises:
        SampleError: an empty id, question or task; a task called `all` or `macro`; answers that are
            one string; a box that is inverted, empty or not finite; a polygon of fewer than three
            corners.

    >>> Sample("7", Path("cat.png"), "where is the cat?", boxes=((8, 1, 5, 9),))
    Traceback (most recent call last):
    tokenlens.errors.SampleError: sample '7': boxes[0]: expected x0 < x1, y0 < y1, got (8, 1, 5, 9)
    """

    id: str
    image: Path | StoredPicture | Image.Image
    question: str
    answers: tuple[str, ...] = ()
    task: str = "question"
    boxes: tuple[Box, ...] = ()
    polygons: tuple[Polygon, ...] = ()
    anchors: tuple[Box, ...] = ()
    metric: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise SampleError(f"sample {self.id!r}: {problem}")

    def open_image(self) -> Image.Image:
        """The picture in RGB as displayed. Raises `SampleError` if it or a region is unusable."""
        if isinstance(self.image, Image.Image):
            image = as_rgb(self.image)
        elif isinstance(self.image, StoredPicture):
            image = open_picture(self.image)
        else:
            image = open_picture(Path(self.image))
        check_regions(self, image.size)
        return image

    def _problem(self) -> str | None:
        for field in ("id", "question", "task"):
            if not getattr(self, field).strip():
                return f"{field}: expected some text, got an empty string"
        if self.task in _SUMMARIES:
            return f"task: {self.task!r} is what the mean over tasks is called; expected another"
        if isinstance(self.answers, str):
            return f"answers: expected a tuple of strings such as ({self.answers!r},), got a string"
        named = [
            *((f"boxes[{index}]", _box_problem(box)) for index, box in enumerate(self.boxes)),
            *((f"anchors[{index}]", _box_problem(box)) for index, box in enumerate(self.anchors)),
            *(
                (f"polygons[{index}]", _polygon_problem(polygon))
                for index, polygon in enumerate(self.polygons)
            ),
        ]
        return next((f"{name}: {problem}" for name, problem in named if problem), None)


def _box_problem(box: Box) -> str | None:
    if not isinstance(box, Sequence) or len(box) != 4:
        return f"expected four numbers x0, y0, x1, y1, got {box!r}"
    if not all(map(math.isfinite, box)):
        return f"expected finite numbers, got {box}"
    x0, y0, x1, y1 = box
    return None if x0 < x1 and y0 < y1 else f"expected x0 < x1, y0 < y1, got {box}"


def _polygon_problem(polygon: Polygon) -> str | None:
    if len(polygon) < 3:
        return f"expected at least three corners, got {len(polygon)}"
    if not all(math.isfinite(value) for corner in polygon for value in corner):
        return f"expected finite numbers, got {polygon}"
    return None


def check_regions(sample: Sample, size: tuple[int, int]) -> None:
    """Raise `SampleError` where a region of `sample` lies outside its picture of (width, height).

    Half a pixel of overshoot is taken as rounding.
    """
    width, height = size
    corners: list[tuple[str, Polygon]] = [
        (f"{field}[{index}]", ((box[0], box[1]), (box[2], box[3])))
        for field in ("boxes", "anchors")
        for index, box in enumerate(getattr(sample, field))
    ]
    corners += [(f"polygons[{index}]", outline) for index, outline in enumerate(sample.polygons)]
    for name, points in corners:
        for x, y in points:
            inside_x = -_ROUNDING <= x <= width + _ROUNDING
            inside_y = -_ROUNDING <= y <= height + _ROUNDING
            if not (inside_x and inside_y):
                raise SampleError(
                    f"sample {sample.id!r}: {name}: corner ({x:g}, {y:g}) lies outside the "
                    f"{width}x{height} picture; expected pixels of the picture as displayed"
                )
