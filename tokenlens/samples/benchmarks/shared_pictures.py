"""Removal of pictures that both splits of a benchmark hold: no layer choice sees a test picture."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from tokenlens.errors import SampleError, SplitWarning
from tokenlens.samples.benchmarks import Address
from tokenlens.samples.benchmarks.benchmark import Row
from tokenlens.samples.pictures import StoredPicture
from tokenlens.storage.files import hash_bytes


def unjudged(address: Address, own: str, rows: Sequence[Row]) -> list[Row]:
    """The rows of the calibration split, without the pictures of the held-out split.

    A `SplitWarning` says what was left out, or why that could not be determined. Where nothing
    would be left (a benchmark with one split only), nothing is left out, and the warning says so.
    """
    held_out = address.split_for("held-out")
    name = address.benchmark.name
    if held_out == own:
        return list(rows)
    try:
        judged = list(address.rows(held_out))
    except SampleError as error:
        _say(
            f"{name}: whether {own}, which layers are chosen on, shares pictures with {held_out} "
            f"is not known: {str(error)[:200]}"
        )
        return list(rows)
    kept = without_shared(rows, judged)
    if rows and not kept:
        _say(
            f"{name}: every picture of {own} is in {held_out} as well, so layers chosen here are "
            "chosen on what they are judged on; choose them on other data"
        )
        return list(rows)
    if len(kept) < len(rows):
        _say(
            f"{name}: {len(rows) - len(kept)} of the {len(rows)} samples of {own} are left out: "
            f"their pictures are in {held_out} as well, which the layers are judged on"
        )
    return kept


def _say(sentence: str) -> None:
    warnings.warn(sentence, SplitWarning, stacklevel=5)


def without_shared(rows: Sequence[Row], judged: Sequence[Row]) -> list[Row]:
    """The rows whose picture none of the `judged` rows has.

    Pictures are compared by the data set's own ids, or else by the bytes of their files. One that
    cannot be read equals no other; the error is raised where the picture is used.
    """
    own, others = _Pictures(rows), _Pictures(judged)
    sizes = set(own.sizes.values()) & set(others.sizes.values())
    held = {key for key in (others.key(row, sizes) for row in judged) if key}
    return [row for row in rows if own.key(row, sizes) not in held]


class _Pictures:
    """Keys of the pictures of rows; a file is read only where its size occurs in both splits.

    Attributes:
        sizes: size of each file in bytes, by its path.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        paths = {row.sample.image for row in rows if not row.picture}
        self.sizes = {
            path: path.stat().st_size for path in paths if isinstance(path, Path) and path.is_file()
        }
        self._hashes: dict[object, str | None] = {}

    def key(self, row: Row, sizes: set[int]) -> str | None:
        """The key of a row's picture; None where it cannot be read, or has none of the sizes."""
        if row.picture:
            return f"id {row.picture}"
        image = row.sample.image
        if isinstance(image, Path) and self.sizes.get(image) not in sizes:
            return None
        if image not in self._hashes:
            self._hashes[image] = _hash(image) if isinstance(image, Path | StoredPicture) else None
        return self._hashes[image]


def _hash(image: Path | StoredPicture) -> str | None:
    try:
        content = image.read_bytes() if isinstance(image, Path) else image.read()
    except (OSError, SampleError):
        return None
    return f"bytes {hash_bytes(content)}"
