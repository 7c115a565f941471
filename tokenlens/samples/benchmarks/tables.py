"""Tables of the Hugging Face hub, or copies of them on disk, read with `datasets`."""

import json
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from tokenlens.errors import SampleError
from tokenlens.samples.pictures import StoredPicture


@dataclass(frozen=True)
class Table:
    """One split of a data set on the hub, or of a copy of its repository in a directory.

    Attributes:
        source: hub id, or the directory.
        split: its split.
        config: its configuration; None where it has only one.
        image: the column of its pictures.
    """

    source: str
    split: str
    config: str | None = None
    image: str = "image"

    def __str__(self) -> str:
        return " ".join(filter(None, (self.source, self.config, self.split)))

    def place(self, index: int) -> str:
        """Name of a row in messages."""
        return f"{self} row {index}"

    def rows(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Place, index and columns of every row, without its picture."""
        data = load_table(self)
        rows = data.remove_columns(self.image) if self.image in data.column_names else data
        for index, row in enumerate(rows):
            yield self.place(index), index, row

    def picture(self, index: int) -> "TablePicture":
        """The picture of a row, not read yet."""
        return TablePicture(self, index)

    def label_names(self, *path: str) -> list[str]:
        """The names of a column of class labels, where it is one, else none."""
        feature = load_table(self).features
        for part in path:
            feature = getattr(feature, "feature", feature)
            feature = feature.get(part) if isinstance(feature, dict) else None
        feature = getattr(feature, "feature", feature)
        return list(getattr(feature, "names", None) or [])


@dataclass(frozen=True)
class TablePicture(StoredPicture):
    """The picture in one row of a table."""

    table: Table
    index: int

    def read(self) -> bytes:
        """See `StoredPicture.read`."""
        value = load_table(self.table)[self.index].get(self.table.image)
        if not value or not (value.get("bytes") or value.get("path")):
            raise SampleError(f"{self}: {self.table.image}: there is no picture")
        content: bytes | None = value.get("bytes")
        return content or Path(value["path"]).read_bytes()

    @property
    def address(self) -> str:
        """See `StoredPicture.address`."""
        return "table:" + json.dumps([*astuple(self.table), self.index])

    @classmethod
    def at(cls, *parts: Any) -> Self:
        """The picture with an address of these parts."""
        *table, index = parts
        return cls(Table(*table), index)

    def __str__(self) -> str:
        return self.table.place(self.index)


@lru_cache(maxsize=4)
def load_table(table: Table) -> Any:
    """The table, with its pictures as bytes, not decoded."""
    try:
        import datasets
    except ImportError as error:
        raise SampleError(
            f"{table} is read with `datasets`, which is not installed: pip install tokenlens[hub]"
        ) from error
    shown = datasets.is_progress_bar_enabled()
    try:
        if Path(table.source).is_dir():
            datasets.disable_progress_bars()  # nothing to download
        data = datasets.load_dataset(table.source, name=table.config, split=table.split)
    except Exception as error:
        # `datasets` raises its own errors and those of the hub, pyarrow and fsspec.
        raise SampleError(f"{table}: cannot be loaded: {_reason(error)}") from error
    finally:
        if shown:
            datasets.enable_progress_bars()
    if table.image in data.column_names:
        data = data.cast_column(table.image, datasets.Image(decode=False))
    return data


def _reason(error: Exception) -> str:
    """The error and the one beneath it, in one line."""
    parts = [error, error.__cause__] if error.__cause__ is not None else [error]
    return "; ".join(" ".join(str(part).split())[:200] or type(part).__name__ for part in parts)
