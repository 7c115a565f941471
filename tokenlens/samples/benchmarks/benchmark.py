"""What a benchmark is: where its splits are, and how their rows become samples."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tokenlens.errors import SampleError
from tokenlens.samples.sample import Sample
from tokenlens.storage.json_files import one_line

_NEWER_HOMES = {"lmms-lab": "lmms-lab-encoder"}
"""Organisations of the hub whose data sets are read from another one as well (lmms-eval, 2026)."""


class Row(NamedTuple):
    """A sample and where it comes from.

    Attributes:
        place: file and line, or table and row.
        sample: the sample.
        picture: the data set's own id of its picture; empty where it has none.
    """

    place: str
    sample: Sample
    picture: str = ""


@dataclass(frozen=True)
class Layout:
    """One way in which a benchmark is kept.

    Attributes:
        rows: from a place (a directory, or a hub id) and one of its splits to the rows in order.
        calibration: the split that layers are chosen on.
        held_out: the split that the choice is judged on; the same where there is only one.
        notes: what a split holds where it is not what its name says, by the split.
    """

    rows: Callable[[str, str], Iterator[Row]]
    calibration: str
    held_out: str
    notes: Mapping[str, str] = field(default_factory=dict, hash=False)


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

    @property
    def hub_ids(self) -> tuple[str, ...]:
        """Where the mirror is, and where its makers keep it since 2026."""
        organisation, _, name = self.hub_id.partition("/")
        newer = _NEWER_HOMES.get(organisation)
        return (self.hub_id, f"{newer}/{name}") if newer else (self.hub_id,)


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


def row(place: str, picture: str = "", **values: Any) -> Row:
    """A row of a sample with these values; `SampleError` naming its place where one is wrong."""
    try:
        return Row(place, Sample(**values), picture)
    except SampleError as error:
        raise SampleError(f"{place}: {error}") from error
