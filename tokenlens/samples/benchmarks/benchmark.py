"""Type of a benchmark: its splits, its layouts, and how their rows become samples."""

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
    """A sample and its place in the benchmark's files.

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
    """One layout of a benchmark's files.

    Attributes:
        rows: a function from a place (a directory, or a hub id) and a split to the rows in order.
        calibration: the split that layers are chosen on.
        held_out: the split that the choice is judged on; the same where there is only one.
        notes: by split, what it holds where its name does not tell.
    """

    rows: Callable[[str, str], Iterator[Row]]
    calibration: str
    held_out: str
    notes: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Benchmark:
    """A published benchmark.

    Attributes:
        name: its name in an address `name:place`.
        about: what it asks and what is reported, in a few words.
        metric: the name of its metric in `evaluation.metrics.METRICS`.
        files: layout of its published files.
        hub: layout of its mirror on the Hugging Face hub.
        hub_id: hub id of the mirror.
    """

    name: str
    about: str
    metric: str
    files: Layout
    hub: Layout
    hub_id: str

    @property
    def hub_ids(self) -> tuple[str, ...]:
        """The mirror's hub id, and the one that its makers use since 2026."""
        organisation, _, name = self.hub_id.partition("/")
        newer = _NEWER_HOMES.get(organisation)
        return (self.hub_id, f"{newer}/{name}") if newer else (self.hub_id,)


class Fields(BaseModel):
    """Base class for the columns of one row; columns that are not declared are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True)


F = TypeVar("F", bound=Fields)


def parse(fields: type[F], row: Any, place: str) -> F:
    """A row parsed as `fields`; `SampleError` with its place and the wrong field."""
    try:
        return fields.model_validate(row)
    except ValidationError as error:
        raise SampleError(f"{place}: {one_line(error, fields)}") from error


def row(place: str, picture: str = "", **values: Any) -> Row:
    """A row of a sample with these values; `SampleError` with its place where a value is wrong."""
    try:
        return Row(place, Sample(**values), picture)
    except SampleError as error:
        raise SampleError(f"{place}: {error}") from error
