"""Directories of rows that survive a killed run: a manifest, written first, and Parquet shards.

Profiles and results are both such directories. Every file is written whole or not at all, so a
killed run loses at most the open shard. The same run continues where it stopped, and its finished
directory equals, shard by shard, that of an uninterrupted run.
"""

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from tokenlens.errors import DamagedShardWarning, OutputError, ProfileError, ResultsError
from tokenlens.storage.files import hash_json
from tokenlens.storage.invocation import current_command
from tokenlens.storage.locking import DirectoryLock
from tokenlens.storage.run_directory import (
    MANIFEST,
    MANIFEST_SCHEMA,
    FoundRun,
    find_run,
    shard_name,
)
from tokenlens.storage.seals import write_sealed
from tokenlens.storage.shard_files import write_shard
from tokenlens.storage.shard_reader import ShardReader
from tokenlens.storage.versions import versions

__all__ = ["MANIFEST", "ShardReader", "ShardStore", "existing_run"]


class ShardStore:
    """Writes rows to a directory, in order, and continues one that was interrupted.

    A context manager: leaving it, also by an error or Ctrl-C, writes the rows of the open shard.
    Until then no other process can open a store in the same directory.

    Attributes:
        directory: Where the manifest and the shards are.
        count: Rows stored already; the run continues with the sample of this index.
        complete: Whether `finish` was called, by this run or an earlier one.
        found: What was there when it was opened.
    """

    def __init__(self, found: FoundRun, schema: pa.Schema, lock: DirectoryLock) -> None:
        self._lock = lock
        self.directory = found.directory
        self.count = len(found)
        self.complete = found.complete
        self.found = found
        self._manifest = found.manifest
        self._run = hash_json(found.manifest["identity"])
        self._schema = schema
        self._open: list[dict[str, Any]] = []
        last = max(found.counts, default=0)
        self.begin(last * self._manifest["shard_rows"] + found.counts.get(last, 0))

    def missing(self, total: int) -> list[range]:
        """The rows of `total` that were not there when the store was opened; see `begin`."""
        return self.found.missing(total)

    def fill(
        self,
        total: int,
        batch_size: int,
        make: Callable[[Iterator[range]], Iterable[Iterable[Mapping[str, Any]]]],
    ) -> Iterator[None]:
        """Append the rows of `total` that are missing; yields once for each.

        `make` is given the batches of indices that hold missing rows and gives the rows of each.
        Batches begin at multiples of `batch_size`, so that they are those of a whole run.
        """
        planned = [
            (hole, range(start, min(start + batch_size, total)))
            for hole in self.missing(total)
            for start in range(hole.start - hole.start % batch_size, hole.stop, batch_size)
        ]
        made = make(places for _, places in planned)
        for (hole, places), rows in zip(planned, made, strict=True):
            if places.start <= hole.start:
                self.begin(hole.start)
            for place, row in zip(places, rows, strict=True):
                if place in hole:
                    self.append(row)
                    yield

    def begin(self, row: int) -> None:
        """Write the open shard, and make the row of this index the next one to append."""
        self.close()
        self._next = row
        self._shard, stored = divmod(row, self._manifest["shard_rows"])
        path = self.directory / shard_name(self._shard)
        self._stored = [pq.read_table(path).cast(self._schema)] if stored else []

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
            info: Further entries of the manifest that do not tell runs apart.
            shard_rows: Rows in a full shard, the most that are held in memory.

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
        self._next += 1
        if self._next == (self._shard + 1) * self._manifest["shard_rows"]:
            self.close()
            self._stored = []
            self._shard += 1

    def note(self, **info: Any) -> None:
        """Change entries of the manifest that do not tell runs apart, where they are others."""
        if any(self._manifest.get(name) != value for name, value in info.items()):
            self._manifest |= info
            write_sealed(self.directory / MANIFEST, self._manifest)

    def close(self) -> None:
        """Write the open shard, full or not; a run that continues completes it."""
        if self._open:
            self._stored.append(pa.Table.from_pylist(self._open, schema=self._schema))
            self._open = []
            rows = pa.concat_tables(self._stored).combine_chunks()
            path = self.directory / shard_name(self._shard)
            write_shard(path, rows, self._run, self._shard)

    def finish(self, summary: Mapping[str, Any] | None = None) -> None:
        """Write the open shard and mark the run complete, with its number of rows and `summary`.

        A run that was complete before a shard of it was redone keeps its manifest.
        """
        self.close()
        if not self._manifest["complete"]:
            self._manifest |= {"complete": True, "rows": self.count, **(summary or {})}
            write_sealed(self.directory / MANIFEST, self._manifest)
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
            self.release()

    def release(self) -> None:
        """Let other processes write; a store that is left by its context has done so."""
        self._lock.release()


def existing_run(directory: Path, kind: str, identity: Mapping[str, Any]) -> FoundRun | None:
    """The rows that the same run has already written to `directory`; None where there are none.

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
        found = find_run(directory, kind)
    except (ProfileError, ResultsError) as error:
        raise OutputError(str(error)) from error
    there = _flat(found.manifest["identity"])
    here = _flat(json.loads(json.dumps(identity)))
    for key in [*here, *there]:
        if key == "model.weights" and key not in there:
            raise OutputError(
                f"{directory} holds a {kind} of an earlier tokenlens, which did not record all "
                "weights; choose another directory with --out, or delete it"
            )
        if there.get(key) != here.get(key):
            raise OutputError(
                f"{directory} holds another {kind}: its {key} is {there.get(key)!r}, now "
                f"{here.get(key)!r}; choose another directory with --out, or delete it"
            )
    return found


def _begun(
    directory: Path,
    kind: str,
    identity: Mapping[str, Any],
    info: Mapping[str, Any],
    shard_rows: int,
) -> FoundRun:
    """The store in a locked directory, created where there is none."""
    found = existing_run(directory, kind, identity)
    if found is None:
        manifest = {
            "schema": MANIFEST_SCHEMA,
            "kind": kind,
            "complete": False,
            "identity": identity,
            **info,
            "shard_rows": shard_rows,
            "command": current_command(),
            "versions": versions(),
        }
        write_sealed(directory / MANIFEST, manifest)
        found = find_run(directory, kind)
    for shard, reason in found.damaged.items():
        warnings.warn(
            f"{shard} is damaged ({reason}): its rows are made again",
            DamagedShardWarning,
            stacklevel=3,
        )
    for leftover in _temporaries(directory):
        leftover.unlink(missing_ok=True)
    return found


def _temporaries(directory: Path) -> list[Path]:
    """Temporary files that a killed `atomic_path` has left."""
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
