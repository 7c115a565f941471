"""Readers of published benchmarks, from their files or from the hub, one file per benchmark."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from tokenlens.errors import SampleError
from tokenlens.samples.benchmarks.benchmark import Benchmark, Layout, Row
from tokenlens.wording.suggest import one_of

BENCHMARKS: Mapping[str, str] = MappingProxyType(
    {
        "refcoco": "tokenlens.samples.benchmarks.refcoco",
        "refcoco+": "tokenlens.samples.benchmarks.refcoco",
        "refcocog": "tokenlens.samples.benchmarks.refcoco",
        "coco": "tokenlens.samples.benchmarks.coco",
        "textvqa": "tokenlens.samples.benchmarks.textvqa",
        "vqav2": "tokenlens.samples.benchmarks.vqav2",
        "gqa": "tokenlens.samples.benchmarks.gqa",
        "scienceqa": "tokenlens.samples.benchmarks.scienceqa",
        "mme": "tokenlens.samples.benchmarks.mme",
        "mmbench": "tokenlens.samples.benchmarks.mmbench",
        "pope": "tokenlens.samples.benchmarks.pope",
    }
)
"""Name of each benchmark and the module that has it among its `BENCHMARKS`, imported when used."""

_ADDRESS = re.compile(r"(?P<name>[\w+-]{2,})(?:/(?P<split>[\w+]+))?:(?P<place>.+)", re.DOTALL)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Address:
    """Where a benchmark is: `name:place` or `name/split:place`.

    Attributes:
        benchmark: the benchmark.
        split: the named split; None takes the default split of each use (see `split_for`).
        place: an absolute directory or a hub id.
        layout: the layout of the benchmark's files there.
    """

    benchmark: Benchmark
    split: str | None
    place: str
    layout: Layout

    @classmethod
    def of(cls, data: str) -> "Address | None":
        """The address in `data`; None where it does not have the form of an address.

        Raises `SampleError` for an unknown benchmark, and for a place that is no directory and no
        hub id.
        """
        found = _ADDRESS.fullmatch(data)
        if found is None or Path(data).exists():
            return None
        benchmark = find_benchmark(found["name"])
        folder = Path(found["place"]).expanduser().absolute()
        if folder.is_dir():
            hub = next(folder.rglob("*.parquet"), None) is not None
            layout = benchmark.hub if hub else benchmark.files
            return cls(benchmark, found["split"], str(folder), layout)
        if not _HUB_ID.fullmatch(found["place"]) or folder.exists():
            raise SampleError(
                f"{data}: {found['place']} is no directory and no hub id; expected "
                f"{benchmark.name}:DIRECTORY or {benchmark.name}:{' or '.join(benchmark.hub_ids)}"
            )
        return cls(benchmark, found["split"], found["place"], benchmark.hub)

    def __str__(self) -> str:
        split = f"/{self.split}" if self.split else ""
        return f"{self.benchmark.name}{split}:{self.place}"

    def split_for(self, use: str) -> str:
        """The split for a use: to choose layers ("calibration") or to judge them ("held-out")."""
        layout = self.layout
        return layout.calibration if use == "calibration" else layout.held_out

    def rows(self, split: str) -> Iterator[Row]:
        """The rows of a split; `SampleError` with the place of a row that cannot be used."""
        return self.layout.rows(self.place, split)


def find_benchmark(name: str) -> Benchmark:
    """The benchmark called `name`; `SampleError` with the nearest names where there is none."""
    if name not in BENCHMARKS:
        raise SampleError(f"no benchmark {name!r}: expected {one_of(name, BENCHMARKS)}")
    module = import_module(BENCHMARKS[name])
    benchmark: Benchmark = next(one for one in module.BENCHMARKS if one.name == name)
    return benchmark
