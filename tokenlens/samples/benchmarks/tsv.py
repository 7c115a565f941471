"""Tab-separated files with pictures in base64, each read from the file when needed."""

import base64
import binascii
import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import BinaryIO, Self

from tokenlens.errors import SampleError
from tokenlens.samples.pictures import StoredPicture

_IMAGE = "image"
_SHORT = 64
"""A picture's cell up to this length is the index of the row that holds the picture."""


@dataclass(frozen=True)
class TsvPicture(StoredPicture):
    """The picture in one row of a file.

    Attributes:
        path: the file.
        start: offset of the row in bytes.
        length: length of the row in bytes.
        column: column of the picture, counted from 0.
        line: last line of the row, for messages.
    """

    path: Path
    start: int
    length: int
    column: int
    line: int

    def read(self) -> bytes:
        """See `StoredPicture.read`."""
        try:
            with self.path.open("rb") as stream, _large_cells():
                stream.seek(self.start)
                text = stream.read(self.length).decode()
                (cells,) = csv.reader(text.splitlines(keepends=True), delimiter="\t")
            return base64.b64decode(cells[self.column], validate=True)
        except (OSError, ValueError, IndexError, binascii.Error) as error:
            raise SampleError(f"{self}: {_IMAGE}: is not a picture in base64 ({error})") from error

    @property
    def address(self) -> str:
        """See `StoredPicture.address`."""
        return "tsv:" + json.dumps([str(self.path), *astuple(self)[1:]])

    @classmethod
    def at(cls, path: str, *rest: int) -> Self:
        """The picture with an address of these parts."""
        return cls(Path(path), *rest)

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def read_tsv(path: Path) -> list[tuple[str, dict[str, str], TsvPicture]]:
    """Place, cells (without the picture's) and picture of every row; the first row is headings.

    Raises:
        SampleError: a file that cannot be read, has no pictures, or a row of another length.
    """
    found: list[tuple[str, dict[str, str], TsvPicture]] = []
    indices: dict[str, TsvPicture] = {}
    try:
        with path.open("rb") as stream, _large_cells():
            rows = _rows(stream)
            _, _, _, head = next(rows, (0, 0, 0, []))
            if _IMAGE not in head:
                raise SampleError(f"{path}:1: expected headings, {_IMAGE!r} among them")
            column = head.index(_IMAGE)
            for line, start, end, cells in rows:
                where = f"{path}:{line}"
                if len(cells) != len(head):
                    raise SampleError(f"{where}: {len(cells)} cells, expected {len(head)}")
                named = dict(zip(head, cells, strict=True))
                picture = TsvPicture(path, start, end - start, column, line)
                image = named.pop(_IMAGE)
                if len(image) <= _SHORT:
                    if image not in indices:
                        raise SampleError(f"{where}: {_IMAGE}: no row before it is {image!r}")
                    picture = indices[image]
                indices[named.get("index", "")] = picture
                found.append((where, named, picture))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SampleError(f"{path}: cannot be read: {error}") from error
    return found


def _rows(stream: BinaryIO) -> Iterator[tuple[int, int, int, list[str]]]:
    """Last line, first byte, byte after the last, and cells of every row that is not empty."""
    read = 0

    def lines() -> Iterator[str]:
        nonlocal read
        for line in stream:
            read += len(line)
            yield line.decode("utf-8-sig" if read == len(line) else "utf-8")

    start, reader = 0, csv.reader(lines(), delimiter="\t")
    for cells in reader:
        if cells:
            yield reader.line_num, start, read, cells
        start = read


@contextmanager
def _large_cells() -> Iterator[None]:
    """Raise the csv module's limit on a cell, which holds for the whole process, for pictures."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
