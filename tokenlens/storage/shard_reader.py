"""Reading of a directory of rows, as `shards` writes it: a manifest and Parquet shards."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tokenlens.storage.run_directory import KINDS, MANIFEST, FoundRun, find_run, redo, shard_name


class ShardReader:
    """Reads a store's directory, finished or not, one shard in memory at a time.

    Attributes:
        directory: Where the manifest and the shards are.
        manifest: The whole manifest.
        identity: What tells the run apart from others: model, data, options.
        complete: Whether the run that writes here has finished.
        shards: The files of rows.
        counts: Their rows.

    Raises the kind's error (`ProfileError`, `ResultsError`) where the directory holds no such
    store, or one that is damaged: every file is checked against its hash first.
    """

    def __init__(self, directory: Path | str, kind: str) -> None:
        self.directory = Path(directory)
        self._error = KINDS[kind][0]
        found = find_run(self.directory, kind)
        self.manifest = found.manifest
        self.identity: dict[str, Any] = self.manifest["identity"]
        self.complete: bool = self.manifest["complete"]
        self._redo = redo(found, kind)
        self._check(found)
        self.shards = [self.directory / shard_name(place) for place in sorted(found.counts)]
        self.counts = [found.counts[place] for place in sorted(found.counts)]

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def size_bytes(self) -> int:
        """The size of the shards."""
        return sum(shard.stat().st_size for shard in self.shards)

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield every row in the order of the samples; lists of numbers come as numpy arrays."""
        for shard in self.shards:
            for batch in self._batches(shard, columns):
                for row in range(batch.num_rows):
                    yield {
                        name: _python_value(column[row])
                        for name, column in zip(batch.schema.names, batch.columns, strict=True)
                    }

    def table(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The given columns of all rows, in memory."""
        frames = list(self.tables(columns))
        return pd.concat(frames) if frames else pd.DataFrame(columns=columns)

    def tables(
        self, columns: Sequence[str] | None = None, places: Collection[int] | None = None
    ) -> Iterator[pd.DataFrame]:
        """The given columns of every shard, or of those of its rows that are at some places.

        The index is the rows' places, counted from 0; a shard without such rows is not read.
        """
        start, wanted = 0, sorted(set(places or ()))
        for shard, count in zip(self.shards, self.counts, strict=True):
            inside = [place - start for place in wanted if start <= place < start + count]
            if places is None or inside:
                parts = [batch.to_pandas() for batch in self._batches(shard, columns)]
                frame = pd.concat(parts, ignore_index=True)
                frame.index = pd.RangeIndex(start, start + count)
                yield frame if places is None else frame.iloc[inside]
            start += count

    def _batches(self, shard: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        try:
            yield from pq.ParquetFile(shard).iter_batches(columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise self._error(f"cannot read {shard} ({error}); {self._redo}") from error

    def _check(self, found: FoundRun) -> None:
        for shard, reason in found.damaged.items():
            raise self._error(f"cannot read {shard} ({reason}); {self._redo}")
        rows = self.manifest["rows"] if self.complete else len(found)
        for gap in found.missing(rows):
            if gap.start < max(found.counts, default=0) * self.manifest["shard_rows"]:
                name = shard_name(gap.start // self.manifest["shard_rows"])
                raise self._error(
                    f"a shard of {self.directory} is missing: expected {name} with {len(gap)} "
                    f"rows; {self._redo}"
                )
        if self.complete and len(found) != rows:
            raise self._error(
                f"{self.directory} holds {len(found)} rows, its {MANIFEST} says {rows}; "
                f"{self._redo}"
            )


def _python_value(scalar: pa.Scalar) -> Any:
    """A number, text or nested list as Python's; a list of numbers as a numpy array of its own."""
    kind = scalar.type
    if pa.types.is_list(kind) and pa.types.is_primitive(kind.value_type) and scalar.is_valid:
        return scalar.values.to_numpy(zero_copy_only=False).copy()
    return scalar.as_py()
