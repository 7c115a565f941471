"""Cache of a model's answers: a question answered before under the same schedule is not run again.

Each combination of model, schedule and generation options has a directory of Parquet shards. Every
shard is written whole under a name of its own, so several processes can add to one directory at the
same time. Answers are shared between runs, data sets and result directories.
"""

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from tokenlens.errors import DamagedAnswersWarning
from tokenlens.evaluation.running.generation import Answer
from tokenlens.models.layout import Layout
from tokenlens.storage.files import hash_json
from tokenlens.storage.seals import write_sealed
from tokenlens.storage.shard_files import DamagedShardError, check_shard, write_shard

IDENTITY = "identity.json"
_SHARD_ROWS = 128

_SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "size": pa.list_(pa.int32()),
        "more_sizes": pa.list_(pa.list_(pa.int32())),
        "positions": pa.list_(pa.int64()),
        "boxes": pa.list_(pa.float32()),
        "image_index": pa.list_(pa.int64()),
        "grid": pa.list_(pa.list_(pa.int32())),
        "prediction": pa.string(),
        "new_tokens": pa.int32(),
        "prefill_s": pa.float64(),
        "decode_s": pa.float64(),
        "tokens_per_layer": pa.list_(pa.int32()),
        "macs": pa.float64(),
        "scoring_macs": pa.float64(),
        "merging_macs": pa.float64(),
        "kv_bytes": pa.float64(),
        "selected": pa.string(),
    }
)
"""`key` is the sample's (`cache_key.sample_key`), `size` the first picture's, null for text alone,
`more_sizes` the others'; then its `Layout` and the `Answer`, its field `selected` as JSON."""


@dataclass(frozen=True)
class Answered:
    """An answer with the pictures it is about.

    Attributes:
        sizes: (width, height) of every picture in pixels; none for text alone.
        layout: the visual tokens as the model received them.
        answer: the model's answer with its cost.
    """

    sizes: tuple[tuple[int, int], ...]
    layout: Layout
    answer: Answer

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the first picture; zeros for text alone."""
        return self.sizes[0] if self.sizes else (0, 0)


class AnswerCache:
    """The answers of one model under one schedule.

    A context manager: leaving it, also by an error or Ctrl-C, writes the pending answers.

    Attributes:
        directory: directory of the shards.
        known: keys of the samples with an answer.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any]) -> None:
        self._identity = identity
        self._run = hash_json(identity)
        self.directory = root / self._run
        self._open: list[dict[str, Any]] = []
        self._sound = [path for path in sorted(self.directory.glob("*.parquet")) if self._try(path)]
        self.known = {key for table in self._tables(["key"]) for key in table["key"].to_pylist()}

    def add(self, key: str, answered: Answered) -> None:
        """Add the answer to the sample with this key."""
        layout, answer = answered.layout, answered.answer
        self._open.append(
            {
                "key": key,
                "size": answered.sizes[0] if answered.sizes else None,
                "more_sizes": answered.sizes[1:],
                "positions": layout.positions.numpy(),
                "boxes": layout.boxes.flatten().numpy(),
                "image_index": layout.image_index.numpy(),
                "grid": layout.grid,
                **asdict(answer),
                "selected": json.dumps(answer.selected),
            }
        )
        self.known.add(key)
        if len(self._open) >= _SHARD_ROWS:
            self.write()

    def write(self) -> None:
        """Write the answers added since the last write. Raises `OutputError` where it fails."""
        if not self._open:
            return
        if not (self.directory / IDENTITY).exists():
            write_sealed(self.directory / IDENTITY, self._identity)
        path = self.directory / f"{uuid4().hex}.parquet"
        write_shard(path, pa.Table.from_pylist(self._open, schema=_SCHEMA), self._run, 0)
        self._sound.append(path)
        self._open = []

    def read(self, keys: Sequence[str]) -> Iterator[Answered]:
        """The answers to these samples, in this order; every key must be known."""
        self.write()
        tables = [
            table.filter(pc.is_in(table["key"], pa.array(sorted(set(keys)), pa.string())))
            for table in self._tables(_SCHEMA.names)
        ]
        table = pa.concat_tables([_SCHEMA.empty_table(), *tables])
        places = {key: place for place, key in enumerate(table["key"].to_pylist())}
        for start in range(0, len(keys), _SHARD_ROWS):
            wanted = [places[key] for key in keys[start : start + _SHARD_ROWS]]
            yield from map(_answered, table.take(wanted).to_pylist())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.write()

    def _tables(self, columns: list[str]) -> Iterable[pa.Table]:
        return (pq.read_table(path, columns=columns) for path in self._sound)

    def _try(self, path: Path) -> bool:
        """Whether a shard is intact; the answers of a damaged shard are computed again."""
        try:
            check_shard(path, self._run, 0)
        except DamagedShardError as error:
            warnings.warn(
                f"{path} is damaged ({error}): what it held is asked again; delete it",
                DamagedAnswersWarning,
                stacklevel=3,
            )
            return False
        return True


def own_answers(directory: Path) -> Path:
    """Directory of the answers that a run writing to `directory` shares with no other run."""
    return directory / ".answers"


@contextmanager
def answers_within(directory: Path) -> Iterator[Path]:
    """Provide `own_answers` inside the context; they are deleted once the run has finished."""
    place = own_answers(directory)
    yield place
    rmtree(place, ignore_errors=True)


def _answered(row: Mapping[str, Any]) -> Answered:
    sizes = [row["size"], *(row["more_sizes"] or ())] if row["size"] is not None else []
    layout = Layout(
        positions=torch.tensor(row["positions"], dtype=torch.int64),
        boxes=torch.tensor(row["boxes"], dtype=torch.float32).reshape(-1, 4),
        image_index=torch.tensor(row["image_index"], dtype=torch.int64),
        grid=tuple((frames, rows, columns) for frames, rows, columns in row["grid"]),
    )
    values = {field.name: row[field.name] for field in fields(Answer)}
    answer = Answer(**{**values, "selected": json.loads(row["selected"])})
    return Answered(tuple((width, height) for width, height in sizes), layout, answer)
