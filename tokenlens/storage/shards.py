"""Directories of rows that survive being killed: a manifest, written first, and Parquet shards.

Profiles and results are both such directories. Every file is written whole or not at all, so a
killed run loses at most the open shard; the same run continues where it stopped, and what it
finishes with equals, shard by shard, what an uninterrupted run would have left.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tokenlens.errors import OutputError, ProfileError, ResultsError, TokenlensError
from tokenlens.storage.files import atomic_path, write_json
from tokenlens.storage.locking import DirectoryLock
from tokenlens.storage.versions import versions

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = 1
_KINDS: dict[str, tuple[type[TokenlensError], str]] = {
    "profile": (ProfileError, "tokenlens profile"),
    "results": (ResultsError, "tokenlens run"),
}


class ShardReader:
    """Reads a store's directory, finished or not, one shard in memory at a time.

    Attributes:
        directory: Where the manifest and the shards are.
        manifest: The whole manifest.
        identity: What makes the run this one and no other: model, data, options.
        complete: Whether the run that writes here has finished.

    Raises the kind's error (`ProfileError`, `ResultsError`) where the directory holds no such
    store, or one that is damaged.
    """

    def __init__(self, directory: Path | str, kind: str) -> None:
        self.directory = Path(directory)
        self._error, command = _KINDS[kind]
        path = self.directory / MANIFEST
        if not path.is_file():
            raise self._error(
                f"{self.directory} holds no {kind} (no {MANIFEST}); make one with `{command}`"
            )
        self.manifest = self._read_manifest(path, kind)
        self.identity: dict[str, Any] = self.manifest["identity"]
        self.complete: bool = self.manifest["complete"]
        self.shards = sorted(self.directory.glob("shard-*.parquet"))
        self.counts = [self._parquet(shard).metadata.num_rows for shard in self.shards]
        self._check_shards()

    def __len__(self) -> int:
        return sum(self.counts)

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield every row in the order of the samples; lists of numbers come as numpy arrays."""
        for shard in self.shards:
            for batch in self._parquet(shard).iter_batches(columns=columns):
                for row in range(batch.num_rows):
                    yield {
                        name: _python_value(column[row])
                        for name, column in zip(batch.schema.names, batch.columns, strict=True)
                    }

    def table(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The given columns of all rows, in memory."""
        frames = [
            batch.to_pandas()
            for shard in self.shards
            for batch in self._parquet(shard).iter_batches(columns=columns)
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)

    def _read_manifest(self, path: Path, kind: str) -> dict[str, Any]:
        try:
            manifest = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise self._error(f"cannot read {path}: {error}; delete {path.parent}") from error
        header = manifest if isinstance(manifest, dict) else {}
        if (header.get("schema"), header.get("kind")) != (MANIFEST_SCHEMA, kind):
            raise self._error(
                f"{path} is of schema {header.get('schema')} and kind {header.get('kind')}, "
                f"expected schema {MANIFEST_SCHEMA} and kind {kind}; name another directory"
            )
        return header

    def _parquet(self, shard: Path) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(shard)
        except (OSError, pa.ArrowException) as error:
            raise self._error(
                f"cannot read {shard} ({error}); delete it and the shards after it, "
                "and run the same command again"
            ) from error

    def _check_shards(self) -> None:
        full = self.manifest["shard_rows"]
        for index, (shard, count) in enumerate(zip(self.shards, self.counts, strict=True)):
            last = index == len(self.shards) - 1
            fits = count == full or (last and 0 < count < full)
            if not fits or shard.name != _shard_name(index):
                raise self._error(
                    f"{shard} is out of place: expected {_shard_name(index)} with {full} rows; "
                    "delete it and the shards after it, and run the same command again"
                )
        if self.complete and len(self) != self.manifest["rows"]:
            raise self._error(
                f"{self.directory} holds {len(self)} rows, its {MANIFEST} says "
                f"{self.manifest['rows']}; delete {MANIFEST} and the shards, and run it again"
            )


class ShardStore:
    """Writes rows to a directory, in order, and continues one that was interrupted.

    A context manager: leaving it, also by an error or Ctrl-C, writes the rows of the open shard.
    Until then no other process can open the directory's store.

    Attributes:
        directory: Where the manifest and the shards are.
        count: Rows stored already; the run continues with the sample of this index.
        complete: Whether `finish` was called, by this run or an earlier one.
    """

    def __init__(self, reader: ShardReader, schema: pa.Schema, lock: DirectoryLock) -> None:
        self._lock = lock
        self.directory = reader.directory
        self.count = len(reader)
        self.complete = reader.complete
        self._manifest = reader.manifest
        self._schema = schema
        self._shard = self.count // self._manifest["shard_rows"]
        self._stored: list[pa.Table] = [
            pq.read_table(path).cast(schema) for path in reader.shards[self._shard :]
        ]
        self._open: list[dict[str, Any]] = []
        self._written = self.count

    @classmethod
    def open(
        cls,
        directory: Path | str,
        kind: str,
        identity: Mapping[str, Any],
        schema: pa.Schema,
        info: Mapping[str, Any] | None = None,
        shard_rows: int = 64,
    ) -> Self:
        """Begin a store in `directory`, or continue the same run's.

        Args:
            directory: Made where missing.
            kind: `profile` or `results`.
            identity: JSON values by which a run is recognised as the same one.
            schema: The columns of a row.
            info: More for the manifest that does not tell runs apart.
            shard_rows: Rows in a full shard; what is in memory at most.

        Raises:
            OutputError: The directory cannot be written to, is not empty and no store, holds
                another run (the first key of the identity that differs is named), or is being
                written to by another process.
        """
        directory = Path(directory)
        existing_run(directory, kind, identity)
        lock = DirectoryLock(directory)
        try:
            return cls(_begun(directory, kind, identity, info or {}, shard_rows), schema, lock)
        except BaseException:
            lock.release()
            raise

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row, a value (numpy arrays for lists) for every column; a full shard is written.

        Raises `OutputError` where the file system refuses the shard.
        """
        if set(row) != set(self._schema.names):
            raise ValueError(f"a row has columns {sorted(row)}, not {sorted(self._schema.names)}")
        self._open.append(dict(row))
        self.count += 1
        if self.count == (self._shard + 1) * self._manifest["shard_rows"]:
            self.close()
            self._stored = []
            self._shard += 1

    def close(self) -> None:
        """Write the open shard, full or not; a run that continues completes it."""
        if self._written < self.count:
            self._stored.append(pa.Table.from_pylist(self._open, schema=self._schema))
            self._open = []
            shard = pa.concat_tables(self._stored).combine_chunks()
            with atomic_path(self.directory / _shard_name(self._shard)) as temporary:
                pq.write_table(shard, temporary, compression="zstd")
            self._written = self.count

    def finish(self, summary: Mapping[str, Any] | None = None) -> None:
        """Write what is open and mark the run complete, with its number of rows and `summary`."""
        self.close()
        self._manifest |= {"complete": True, "rows": self.count, **(summary or {})}
        write_json(self.directory / MANIFEST, self._manifest)
        self.complete = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        finally:
            self._lock.release()


def existing_run(directory: Path, kind: str, identity: Mapping[str, Any]) -> ShardReader | None:
    """The rows that this very run has left in `directory`; None where it can begin.

    Raises `OutputError` where the directory is a file, holds something else or another run.
    """
    if not directory.exists():
        return None
    if not directory.is_dir():
        raise OutputError(f"{directory} is a file, not a directory; choose another with --out")
    if not (directory / MANIFEST).exists():
        if set(directory.iterdir()) - set(_temporaries(directory)):
            raise OutputError(
                f"{directory} is not empty and holds no {kind}; choose another directory with --out"
            )
        return None
    try:
        reader = ShardReader(directory, kind)
    except (ProfileError, ResultsError) as error:
        raise OutputError(str(error)) from error
    there, here = _flat(reader.identity), _flat(json.loads(json.dumps(identity)))
    for key in [*here, *there]:
        if there.get(key) != here.get(key):
            raise OutputError(
                f"{directory} holds another {kind}: its {key} is {there.get(key)!r}, now "
                f"{here.get(key)!r}; choose another directory with --out, or delete it"
            )
    return reader


def _begun(
    directory: Path,
    kind: str,
    identity: Mapping[str, Any],
    info: Mapping[str, Any],
    shard_rows: int,
) -> ShardReader:
    """The store in a directory that is locked, begun where there is none."""
    reader = existing_run(directory, kind, identity)
    if reader is None:
        manifest = {
            "schema": MANIFEST_SCHEMA,
            "kind": kind,
            "complete": False,
            "identity": identity,
            **info,
            "shard_rows": shard_rows,
            "versions": versions(),
        }
        write_json(directory / MANIFEST, manifest)
        reader = ShardReader(directory, kind)
    for leftover in _temporaries(directory):
        leftover.unlink(missing_ok=True)
    return reader


def _shard_name(index: int) -> str:
    return f"shard-{index:05d}.parquet"


def _temporaries(directory: Path) -> list[Path]:
    """What `atomic_path` leaves behind when it is killed."""
    return list(directory.glob(".*.tmp"))


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined with dots, so that a difference can be named.

    >>> _flat({"model": {"id": "a"}, "limit": None})
    {'model.id': 'a', 'limit': None}
    """
    flat: dict[str, Any] = {}
    for key, item in value.items():
        nested = isinstance(item, Mapping)
        flat |= _flat(item, f"{prefix}{key}.") if nested else {f"{prefix}{key}": item}
    return flat


def _python_value(scalar: pa.Scalar) -> Any:
    """A number, text or nested list as Python's; a list of numbers as a numpy array of its own."""
    kind = scalar.type
    if pa.types.is_list(kind) and pa.types.is_primitive(kind.value_type) and scalar.is_valid:
        return scalar.values.to_numpy(zero_copy_only=False).copy()
    return scalar.as_py()
