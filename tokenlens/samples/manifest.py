"""Reader of manifests: JSON Lines, one sample per line."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from tokenlens.errors import SampleError
from tokenlens.samples.metric_names import METRIC_NAMES
from tokenlens.samples.pictures import picture_size
from tokenlens.samples.sample import Box, Polygon, Sample, check_regions, quoted
from tokenlens.samples.several_pictures import path_problem, split_pictures
from tokenlens.storage.json_files import one_line
from tokenlens.wording.suggest import one_of


def _as_list(answer: Any) -> Any:
    return [answer] if isinstance(answer, str) else answer


class _Row(BaseModel):
    """One line of a manifest."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    id: str
    image: str = ""
    question: str
    answer: Annotated[list[str] | None, Field(min_length=1), BeforeValidator(_as_list)] = None
    task: str = "question"
    boxes: tuple[Box, ...] = ()
    polygons: tuple[Polygon, ...] = ()
    anchors: tuple[Box, ...] = ()
    metric: str = ""

    @field_validator("answer")
    @classmethod
    def _check_answer(cls, answer: list[str] | None) -> list[str] | None:
        if answer and not all(text.strip() for text in answer):
            raise ValueError("got an empty text; leave the answer out where there is none")
        return answer

    @field_validator("image")
    @classmethod
    def _check_image(cls, image: str) -> str:
        if problem := path_problem(image):
            raise ValueError(problem)
        return image

    @field_validator("metric")
    @classmethod
    def _check_metric(cls, metric: str) -> str:
        if metric and metric not in METRIC_NAMES:
            raise ValueError(f"got {quoted(metric)}, expected {one_of(metric, METRIC_NAMES)}")
        return metric


def read_manifest(path: Path) -> list[Sample]:
    """The samples of a JSON Lines manifest, in its order.

    Every line is an object with `id`, `image` (a path, relative to the manifest or absolute),
    `question` and, where there are any, `answer` (a string or a list of strings that count as
    right; samples without are not scored), `task`, `metric` (what scores the answer: exact, box,
    vqa, choice, pope, mme; none: not scored), `boxes`, `polygons` and `anchors` (pixels of the
    picture as displayed). `images` is a list of paths instead of `image`, and so is `frames`, the
    pictures of a video; each box then names its picture, as `[index, x0, y0, x1, y1]` counted from
    0 or by one list of boxes per picture. A line without any of the three is text alone. Blank
    lines are skipped. Of every picture only the header is read.

    Raises:
        SampleError: the first line that cannot be used; the message names file, line and field.
    """
    samples: list[Sample] = []
    lines: dict[str, int] = {}
    sizes: dict[Path, tuple[int, int]] = {}
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            sample, images = _sample(line, path.parent)
            if sample.id in lines:
                raise SampleError(
                    f"id: {quoted(sample.id)} was used in line {lines[sample.id]} already"
                )
            for index, image in enumerate(images):
                if image not in sizes:
                    sizes[image] = picture_size(image)
                check_regions(sample, sizes[image], index)
        except SampleError as error:
            raise SampleError(f"{path}:{number}: {error}") from error
        lines[sample.id] = number
        samples.append(sample)
    if not samples:
        raise SampleError(f"{path}: the manifest is empty; expected one JSON object a line")
    return samples


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SampleError(f"{path}:{line}: not UTF-8; save the manifest as UTF-8") from error
    except FileNotFoundError as error:
        raise SampleError(f"{path}: no such manifest; expected a JSON Lines file") from error
    except OSError as error:
        raise SampleError(f"{path}: cannot be read ({error.strerror})") from error


def _sample(line: str, folder: Path) -> tuple[Sample, tuple[Path, ...]]:
    """The sample of a line and the paths of its pictures."""
    try:
        more: list[str] = []
        box_images: tuple[int, ...] = ()
        fields = json.loads(line, object_pairs_hook=_once_each)
        if isinstance(fields, dict):
            given, more, box_images = split_pictures(fields)
            line = line if given is fields else json.dumps(given)
        row = _Row.model_validate_json(line)
    except json.JSONDecodeError as error:
        raise SampleError(f"bad JSON at column {error.colno} ({error.msg})") from error
    except RecursionError as error:
        raise SampleError("bad JSON (nested too deeply)") from error
    except ValidationError as error:
        raise SampleError(one_line(error, _Row)) from error
    except ValueError as error:
        raise SampleError(f"bad JSON (a number of {_digits()} digits or more)") from error
    images = tuple(folder / image for image in (row.image, *more) if image)
    sample = Sample(
        id=row.id,
        image=images[0] if images else None,
        question=row.question,
        answers=tuple(row.answer or ()),
        task=row.task,
        boxes=row.boxes,
        polygons=row.polygons,
        anchors=row.anchors,
        metric=row.metric,
        more_images=images[1:],
        box_images=box_images if more else (),
        text_only=not images,
    )
    return sample, images


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a line; `SampleError` for a key that is given twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise SampleError(f"{quoted(twice)}: given twice in one object, expected once")
    return found


def _digits() -> int:
    """The number of digits from which on Python refuses to parse an integer."""
    return sys.get_int_max_str_digits() + 1
