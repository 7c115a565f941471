"""Parquet file of rows that holds its own hash, its run and its index in the run.

The footer holds ``run=…;shard=…;sha256=…`` under the key `tokenlens`; the hash is that of the whole
file with zeros in place of the hash. Flipped bits, truncated files and swapped files are therefore
found before Arrow reads the file. Files of earlier versions, without a hash, are read unchecked.
"""

import hashlib
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tokenlens.storage.files import atomic_path

_KEY = b"tokenlens"
_BLANK = b"0" * 64
_SEAL = re.compile(rb"run=([0-9a-f]*);shard=(\d+);sha256=([0-9a-f]{64})")


class DamagedShardError(Exception):
    """A shard that differs from what was written; the text says why, without the file's name."""


def write_shard(path: Path, table: pa.Table, run: str, shard: int) -> None:
    """Write rows, whole or not at all.

    Args:
        path: path of the file.
        table: its rows.
        run: hash of the run's identity, hexadecimal.
        shard: index of the file in the run, from 0.

    Raises `OutputError` where the file system refuses.
    """
    about = f"run={run};shard={shard};sha256=".encode()
    marked = table.replace_schema_metadata({_KEY: about + _BLANK})
    with atomic_path(path) as temporary:
        pq.write_table(marked, temporary, compression="zstd")
        content = temporary.read_bytes()
        place = content.rindex(about + _BLANK) + len(about)
        own = hashlib.sha256(content).hexdigest().encode()
        temporary.write_bytes(content[:place] + own + content[place + len(own) :])


def check_shard(path: Path, run: str, shard: int) -> int:
    """The number of rows in a file; `DamagedShardError` where it differs from what was written."""
    try:
        _check_seal(path.read_bytes(), run, shard)
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise DamagedShardError(_first_line(error)) from error


def _check_seal(content: bytes, run: str, shard: int) -> None:
    seals = list(_SEAL.finditer(content))
    if not seals:
        return
    found = seals[-1]
    start, end = found.span(3)
    if hashlib.sha256(content[:start] + _BLANK + content[end:]).hexdigest().encode() != found[3]:
        raise DamagedShardError("its content does not have the hash it was written with")
    if (found[1].decode(), int(found[2])) != (run, shard):
        raise DamagedShardError("it belongs to another run, or to another place in this one")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
