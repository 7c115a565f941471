"""What a benchmark is: where its splits are, and how their rows become samples."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tokenlens.errors import SampleError
from tokenlens.samples.sample import Sample
from tokenlens.storage.json_files import one_line


class Row(NamedTuple):
    """A sample and the place it was read from: file and line, or table and row."""

    place: str
    sample: Sample


@dataclass(frozen=True)
class Layout:
    """One way in which a benchmark is kept.

    Attributes:
        rows: from a place (a directory, or a hub id) and one of its splits to the rows in order.
        calibration: the split that layers are chosen on.
        held_out: the split that the choice is judged on; the same where there is only one.
    """

    rows: Callable[[str, str], Iterator[Row]]
    calibration: str
    held_out: str


@dataclass(frozen=True)
class Benchmark:
    """A benchmark that people report.

    Attributes:
        name: as it stands in `name:place`.
        about: what it asks and what is reported, in a few words.
        metric: the name of its metric in `evaluation.metrics.METRICS`.
        files: its published files.
        hub: its mirror on the Hugging Face hub.
        hub_id: where that mirror is.
    """

    name: str
    about: str
    metric: str
    files: Layout
    hub: Layout
    hub_id: str


class Fields(BaseModel):
    """Base of what one row of a layout holds; columns that are not named are passed over."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True)


F = TypeVar("F", bound=Fields)


def parse(fields: type[F], row: Any, place: str) -> F:
    """A row as `fields`; `SampleError` naming its place and the field that is wrong."""
    try:
        return fields.model_validate(row)
    except ValidationError as error:
        raise SampleError(f"{place}: {one_line(error, fields)}") from error


def row(place: str, **values: Any) -> Row:
    """A row of a sample with these values; `SampleError` naming its place where one is wrong."""
    try:
        return Row(place, Sample(**values))
    except SampleError as error:
        raise SampleError(f"{place}: {error}") from error
