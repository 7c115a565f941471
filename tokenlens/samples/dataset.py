"""A data set: a bundled one, a manifest, a directory of manifests, or a benchmark."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from tokenlens.errors import SampleError, SplitWarning, TextOnlyWarning
from tokenlens.samples.benchmarks import Address
from tokenlens.samples.benchmarks.checks import checked
from tokenlens.samples.benchmarks.shared_pictures import unjudged
from tokenlens.samples.bundled import BUNDLED, bundled_folder
from tokenlens.samples.manifest import read_manifest
from tokenlens.samples.pictures import picture_size
from tokenlens.samples.sample import Sample
from tokenlens.samples.subset import choose_subset
from tokenlens.storage.files import hash_bytes, hash_json
from tokenlens.storage.output_paths import slug
from tokenlens.wording.suggest import one_of

SPLITS = ("calibration", "held-out")
"""What layers are chosen from, and what the choice is judged on."""


class Samples(Sequence[Sample]):
    """The samples of one split, in order.

    Attributes:
        source: "scenes", "photos", an absolute path, or a benchmark's address.
        split: "calibration", "held-out", a benchmark's own split, or None for a single manifest.
        name: short name, usable as a folder's: "scenes-calibration".
        hash: 16 hexadecimal digits, of the manifest, the ids taken from it and their pictures'
            names and sizes in pixels. Runs compare it to recognise the same data (also after a
            truncated picture was repaired), and the pictures' bytes beside it.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        source: str,
        split: str | None,
        name: str,
        hash: str,  # noqa: A002 - the word used in manifests
    ) -> None:
        self._samples = tuple(samples)
        self.source = source
        self.split = split
        self.name = name
        self.hash = hash

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        return self._samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    def __len__(self) -> int:
        return len(self._samples)

    def only(self, found: Sequence[Sample]) -> "Samples":
        """Some of its samples, as a part of the same data."""
        return Samples(found, source=self.source, split=self.split, name=self.name, hash=self.hash)

    def __repr__(self) -> str:
        return f"Samples({self.name!r}, {len(self)} samples)"


def load_samples(
    data: str | Path,
    split: str = "calibration",
    limit: int | None = None,
    tasks: Sequence[str] = (),
) -> Samples:
    """Load a split of a data set.

    Args:
        data: "scenes" or "photos" (bundled), a JSON Lines manifest (see `read_manifest`), or a
            directory with `calibration.jsonl` and `held-out.jsonl`, or with one `manifest.jsonl`
            for both (as "photos" has); or a benchmark, `pope:DIRECTORY` or `pope:HUB_ID` (see
            `tokenlens benchmarks`), in which `pope/random:DIRECTORY` names one of its own splits.
        split: "calibration" or "held-out"; a single manifest has no splits and is read whole, and
            so is a benchmark whose split is named.
        limit: take this many samples, the first ones of the tasks in turn; the data set's order is
            kept, and samples that a benchmark scores together stay together.
        tasks: take samples of these tasks only; of all tasks where none is named.

    Raises:
        SampleError: no such data set, split or task, a bad row (file, line and field are named), or
            a limit below 1 or below the size of a group.

    >>> samples = load_samples("scenes", "held-out", limit=4)
    >>> samples.name, sorted({sample.task for sample in samples})
    ('scenes-held-out', ['attribute', 'existence', 'localisation', 'text'])
    """
    if split not in SPLITS:
        raise SampleError(f"no split {split!r}: expected one of {', '.join(SPLITS)}")
    address = Address.of(str(data))
    if address is not None:
        return _benchmark_samples(address, split, limit, tasks)
    bundled = str(data) in BUNDLED
    place = bundled_folder(str(data)) if bundled else Path(data).expanduser().absolute()
    manifest, own_split = _find_manifest(place, split)
    rows = _of_tasks(read_manifest(manifest), tasks)
    samples = [rows[place] for place in choose_subset(rows, limit)]
    stem = place.parent.name if place.name == "manifest.jsonl" else place.stem
    return Samples(
        samples,
        source=str(data) if bundled else str(place),
        split=own_split,
        name=slug("-".join(filter(None, (stem, own_split, *tasks)))),
        hash=_content_hash(manifest, samples),
    )


@overload
def with_pictures(samples: Samples, purpose: str) -> Samples: ...
@overload
def with_pictures(samples: Sequence[Sample], purpose: str) -> Sequence[Sample]: ...
def with_pictures(samples: Sequence[Sample], purpose: str) -> Sequence[Sample]:
    """The samples that have a picture; the same object where all have.

    Warns with `TextOnlyWarning` how many `purpose`, the subject of a sentence, leaves out. Raises
    `SampleError` where no sample has a picture.
    """
    found = [sample for sample in samples if sample.pictures]
    if len(found) == len(samples):
        return samples
    if not found:
        raise SampleError(
            f"none of the {len(samples)} samples has a picture, and {purpose} needs visual tokens"
        )
    left = len(samples) - len(found)
    warnings.warn(
        f"{purpose} leaves out {left} of {len(samples)} samples: without a picture there are no "
        "visual tokens",
        TextOnlyWarning,
        stacklevel=3,
    )
    return samples.only(found) if isinstance(samples, Samples) else found


def _benchmark_samples(
    address: Address, split: str, limit: int | None, tasks: Sequence[str]
) -> Samples:
    own = address.split or address.split_for(split)
    rows = list(address.rows(own))
    if address.split is None and split == "calibration":
        rows = unjudged(address, own, rows)
    if own in address.layout.notes:
        warnings.warn(f"{address.benchmark.name}: {address.layout.notes[own]}", SplitWarning, 4)
    wanted = {id(sample) for sample in _of_tasks([row.sample for row in rows], tasks)}
    samples, content = checked([row for row in rows if id(row.sample) in wanted], limit)
    if not samples:
        raise SampleError(f"{address}: the split {own!r} is empty")
    return Samples(
        samples,
        source=str(address),
        split=own,
        name=slug("-".join((address.benchmark.name.replace("+", " plus"), own, *tasks))),
        hash=content,
    )


def _find_manifest(place: Path, split: str) -> tuple[Path, str | None]:
    """The manifest to read and its split, None where there is only one."""
    if place.is_file():
        return place, None
    if not place.is_dir():
        raise SampleError(
            f"no data set {place}: expected {', '.join(map(repr, BUNDLED))}, a JSON Lines "
            "manifest, a directory that holds one, or a benchmark such as pope:DIRECTORY"
        )
    found = sorted(path.name for path in place.glob("*.jsonl"))
    if f"{split}.jsonl" in found:
        return place / f"{split}.jsonl", split
    other = next((f"{one}.jsonl" for one in SPLITS if f"{one}.jsonl" in found), None)
    if other and "manifest.jsonl" in found:
        raise SampleError(
            f"{place} has {other} and no {split}.jsonl; its manifest.jsonl may hold samples of "
            f"both, so it is not taken for the {split} split: add {split}.jsonl, or name one file"
        )
    if "manifest.jsonl" in found:
        return place / "manifest.jsonl", None
    raise SampleError(
        f"{place} has no {split}.jsonl and no manifest.jsonl; it holds "
        f"{', '.join(found) or 'no manifest at all'}"
    )


def _of_tasks(samples: list[Sample], tasks: Sequence[str]) -> list[Sample]:
    """The samples of the named tasks, all where none is named."""
    known = {sample.task for sample in samples}
    for task in tasks:
        if task not in known:
            raise SampleError(
                f"no samples of task {task!r}: expected {one_of(task, sorted(known))}"
            )
    return [sample for sample in samples if not tasks or sample.task in tasks]


def _content_hash(manifest: Path, samples: Sequence[Sample]) -> str:
    images = (image for sample in samples for image in sample.pictures)
    pictures = sorted({Path(image) for image in images})  # type: ignore[arg-type]
    return hash_json(
        [
            hash_bytes(manifest.read_bytes()),
            [sample.id for sample in samples],
            [[path.name, *picture_size(path)] for path in pictures],
        ]
    )
