"""One question about pictures, with its answers and the regions they are read from."""

import math
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from reprlib import Repr
from typing import Any

from PIL import Image

from tokenlens.errors import SampleError
from tokenlens.samples.metric_names import unfit_answers
from tokenlens.samples.pictures import StoredPicture, as_rgb, open_picture

Picture = Path | StoredPicture | Image.Image
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the picture as displayed, origin at the top left."""
Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y) in pixels of the picture as displayed."""

MOST_CHARACTERS = {"id": 10_000, "task": 10_000, "question": 100_000, "answers": 100_000}
"""How long the texts of a sample may be; a longer one is a file that was pasted by mistake."""
_SUMMARIES = ("all", "macro")
_ROUNDING = 0.5
"""Pixels by which a region may overshoot the picture: data sets round."""


@dataclass(frozen=True)
class Sample:
    """A question about a picture, about several, or about none.

    Attributes:
        id: unique within its data set.
        image: path of the picture, a picture kept inside another file, or the picture itself; None
            with `text_only` alone.
        question: the question, as the model receives it.
        answers: the answers that count as right.
        task: kind of question; scores are taken per task.
        boxes: ground truth, xyxy in pixels of the picture as displayed.
        polygons: ground truth outlines, in the same pixels.
        anchors: boxes of things the question mentions but does not ask for.
        metric: name of the metric that scores the answer (of `evaluation.metrics.METRICS`); empty
            for the metric of the task.
        group: samples of one group count together where a benchmark says so, such as a question in
            all orders of its options; empty for a sample that stands alone.
        more_images: the pictures after the first, in the order in which the model gets them.
        box_images: the picture of each box, counted from 0; empty where all are of the first.
        text_only: a question without a picture. It must be said, so that a picture that was
            forgotten is an error.

    Raises:
        SampleError: a value that is not a picture (None, a list, an array); an id, question or task
            that is empty, not text, or longer than `MOST_CHARACTERS`; a task called `all` or
            `macro`; answers that are one string, or that its metric cannot score by; a box that is
            inverted, empty or not finite; a polygon of fewer than three corners.

    >>> Sample("7", Path("cat.png"), "where is the cat?", boxes=((8, 1, 5, 9),))
    Traceback (most recent call last):
    tokenlens.errors.SampleError: sample '7': boxes[0]: expected x0 < x1, y0 < y1, got (8, 1, 5, 9)
    """

    id: str
    image: Picture | None
    question: str
    answers: tuple[str, ...] = ()
    task: str = "question"
    boxes: tuple[Box, ...] = ()
    polygons: tuple[Polygon, ...] = ()
    anchors: tuple[Box, ...] = ()
    metric: str = ""
    group: str = ""
    more_images: tuple[Picture, ...] = ()
    box_images: tuple[int, ...] = ()
    text_only: bool = False

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise SampleError(f"sample {quoted(self.id)}: {problem}")

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures, in the order in which the model gets them; empty for text alone."""
        return () if self.image is None else (self.image, *self.more_images)

    def open_image(self) -> Image.Image:
        """The first picture in RGB as displayed.

        Raises `SampleError` if it or a region is unusable, or where the sample has no picture.
        """
        if self.image is None:
            raise SampleError(f"sample {quoted(self.id)}: has no picture to open, it is text alone")
        return self._open(0, self.image)

    def open_images(self) -> tuple[Image.Image, ...]:
        """All pictures in RGB as displayed; none for text alone.

        Raises `SampleError` if one or a region is unusable.
        """
        if self.image is None:
            return ()
        more = [self._open(index, image) for index, image in enumerate(self.more_images, start=1)]
        return (self.open_image(), *more)

    def _open(self, index: int, picture: Picture) -> Image.Image:
        image = _opened(picture)
        check_regions(self, image.size, index)
        return image

    def boxes_of(self, picture: int) -> tuple[Box, ...]:
        """The boxes of one picture, counted from 0."""
        owners = self.box_images or (0,) * len(self.boxes)
        return tuple(box for box, owner in zip(self.boxes, owners, strict=True) if owner == picture)

    def _problem(self) -> str | None:
        """What is wrong with the sample, or None."""
        checks = (self._picture_problem, self._text_problem, self._answer_problem)
        return next(filter(None, (check() for check in checks)), None) or (
            self._region_problem() or self._owner_problem()
        )

    def _picture_problem(self) -> str | None:
        if self.text_only:
            return "text_only: expected no picture beside it" if self._holds_pictures() else None
        if not isinstance(self.more_images, tuple):
            return f"more_images: expected a tuple, got {type(self.more_images).__name__}"
        for index, image in enumerate((self.image, *self.more_images)):
            if not isinstance(image, str | Path | StoredPicture | Image.Image):
                field = f"more_images[{index - 1}]" if index else "image"
                got = type(image).__name__
                if isinstance(image, list | tuple):
                    got = f"a {got} of {len(image)}; further pictures go into more_images"
                return f"{field}: got {got}, expected a path or a picture of PIL"
        return None

    def _holds_pictures(self) -> bool:
        return self.image is not None or bool(self.more_images)

    def _owner_problem(self) -> str | None:
        count = len(self.pictures)
        if not count and (self.boxes or self.polygons or self.anchors):
            return "boxes, polygons and anchors: expected none, the sample has no picture"
        if not count and self.metric == "box":
            return "metric: 'box' needs a picture, the sample has none"
        if not isinstance(self.box_images, tuple) or len(self.box_images) not in (
            0,
            len(self.boxes),
        ):
            return f"box_images: expected a tuple of {len(self.boxes)}, one picture for each box"
        if any(type(one) is not int or not 0 <= one < count for one in self.box_images):
            return f"box_images: got {quoted(self.box_images)}, expected 0 to {count - 1}"
        if count > 1 and len(self.boxes) > len(self.box_images):
            return "box_images: several pictures, expected the picture of each box"
        if count > 1 and (self.polygons or self.anchors):
            return "polygons and anchors: taken with one picture only; expected boxes"
        if count > 1 and self.metric == "box":
            return "metric: 'box' is of one picture, an answer's box does not say which"
        return None

    def _text_problem(self) -> str | None:
        for field in ("id", "question", "task"):
            text = getattr(self, field)
            problem = text_problem(text, MOST_CHARACTERS[field])
            if problem:
                return f"{field}: {problem}"
        if self.task in _SUMMARIES:
            return f"task: {self.task!r} is what the mean over tasks is called; expected another"
        return None

    def _answer_problem(self) -> str | None:
        if isinstance(self.answers, str):
            return (
                f"answers: expected a tuple of strings such as ({quoted(self.answers)},), got a "
                "string"
            )
        if not isinstance(self.answers, Sequence):
            return f"answers: expected a tuple of strings, got {type(self.answers).__name__}"
        for index, answer in enumerate(self.answers):
            problem = text_problem(answer, MOST_CHARACTERS["answers"])
            if problem and answer != "":  # some published options are empty
                return f"answers[{index}]: {problem}"
        expected = unfit_answers(self.metric, self.answers)
        if expected:
            got = quoted(list(self.answers))
            return f"answers: got {got}, metric {self.metric!r} expects {expected}"
        return None

    def _region_problem(self) -> str | None:
        checks: dict[str, Callable[[Any], str | None]] = {
            "boxes": _box_problem,
            "anchors": _box_problem,
            "polygons": _polygon_problem,
        }
        for field, check in checks.items():
            regions: Any = getattr(self, field)
            if not hasattr(regions, "__len__"):
                return f"{field}: expected a list of them, got {type(regions).__name__}"
            for index, region in enumerate(regions):
                problem = check(region)
                if problem:
                    return f"{field}[{index}]: {problem}"
        return None


def _opened(image: Picture) -> Image.Image:
    if isinstance(image, Image.Image):
        return as_rgb(image)
    return open_picture(image if isinstance(image, StoredPicture) else Path(image))


def quoted(value: object) -> str:
    """A value for a message: on one line and of limited length, whatever it holds.

    >>> quoted("a" * 500)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaaaaaaaaaaa'"
    """
    return _SHORT.repr(value)


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def text_problem(text: object, most: int) -> str | None:
    """Why a value is no text of 1 to `most` characters, or None."""
    if not isinstance(text, str):
        return f"expected a text, got {quoted(text)}"
    if not text.strip():
        return "expected some text, got an empty string"
    if len(text) > most:
        return f"has {len(text):,} characters, expected at most {most:,}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, expected text that can be written as UTF-8"
    return None


def _box_problem(box: Box) -> str | None:
    if not isinstance(box, Sequence) or len(box) != 4:
        return f"expected four numbers x0, y0, x1, y1, got {quoted(box)}"
    if not all(map(_is_finite, box)):
        return f"expected finite numbers, got {quoted(box)}"
    x0, y0, x1, y1 = box
    return None if x0 < x1 and y0 < y1 else f"expected x0 < x1, y0 < y1, got {quoted(box)}"


def _polygon_problem(polygon: Polygon) -> str | None:
    if not isinstance(polygon, Sized) or len(polygon) < 3:
        return f"expected at least three corners, got {quoted(polygon)}"
    for corner in polygon:
        if not isinstance(corner, Sized) or len(corner) != 2:
            return f"expected corners (x, y), got {quoted(corner)}"
        if not all(map(_is_finite, corner)):
            return f"expected finite numbers, got {quoted(corner)}"
    return None


def _is_finite(value: object) -> bool:
    """Whether a value is a number that fits a float and is neither infinite nor NaN."""
    try:
        return math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        return False


def check_regions(sample: Sample, size: tuple[int, int], picture: int = 0) -> None:
    """Raise `SampleError` where a region of `sample` lies outside its picture of (width, height).

    Checked are the regions of one picture, counted from 0. Half a pixel outside is accepted as
    rounding.
    """
    width, height = size
    corners: list[tuple[str, Polygon]] = [
        (f"{field}[{index}]", ((box[0], box[1]), (box[2], box[3])))
        for field in ("boxes", "anchors")
        for index, box in enumerate(getattr(sample, field))
        if (sample.box_images[index] if sample.box_images and field == "boxes" else 0) == picture
    ]
    if picture == 0:
        corners += [
            (f"polygons[{index}]", outline) for index, outline in enumerate(sample.polygons)
        ]
    for name, points in corners:
        for x, y in points:
            inside_x = -_ROUNDING <= x <= width + _ROUNDING
            inside_y = -_ROUNDING <= y <= height + _ROUNDING
            if not (inside_x and inside_y):
                raise SampleError(
                    f"sample {quoted(sample.id)}: {name}: corner ({x:g}, {y:g}) lies outside the "
                    f"{width}x{height} picture; expected pixels of the picture as displayed"
                )
