"""The profile: the importance of every visual token at every layer, for a whole set of samples."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenlens.errors import ProfileError
from tokenlens.probing.stored_rows import stored_region, stored_sizes
from tokenlens.registry import drawing
from tokenlens.samples.sample import Box, Polygon
from tokenlens.storage.seals import require
from tokenlens.storage.shards import MANIFEST, ShardReader

_MANIFEST_KEYS: dict[str, type | tuple[type, ...]] = {
    "layers": int,
    "heads": int,
    "versions": dict,
    "identity.model": dict,
    "identity.model.id": (str, type(None)),
    "identity.model.revision": (str, type(None)),
    "identity.model.architecture": str,
    "identity.model.layers": int,
    "identity.model.config_hash": str,
    "identity.data.source": (str, type(None)),
    "identity.data.split": (str, type(None)),
    "identity.data.hash": str,
    "identity.data.samples": int,
}


@dataclass(frozen=True, eq=False)
class ProfileRow:
    """One sample of a profile.

    Attributes:
        id: Of the sample.
        task: Kind of question.
        question: As the model got it.
        answers: Those that count as right.
        image: Path of the first picture as given; empty for one that was given in memory.
        size: Its width and height in pixels, as displayed.
        region_boxes: Ground truth, xyxy in pixels.
        polygons: Ground-truth outlines in pixels.
        positions: int64 [n_visual], places of the visual tokens in the unpadded prompt.
        boxes: float32 [n_visual, 4], xyxy as shares of the width and height of the token's own
            picture.
        grid: (frames, rows, columns) of visual tokens.
        importance: float32 [layers, n_visual], averaged over heads.
        per_head: float32 [layers, heads, n_visual], or None where heads were not asked for.
        region: bool [n_visual], the tokens that the ground truth covers.
        queries: int64 [queries], places in the unpadded sequence of the tokens whose rows follow;
            None, like what follows, in a profile of the last prompt token alone.
        query_text: what each adds to the text; with queries "generated" the token it predicted.
        query_importance: float32 [layers, queries, n_visual].
        query_per_head: float32 [layers, heads, queries, n_visual], where heads were asked for.
        region: bool [n_visual], the tokens that the ground truth covers, each in its own picture.
        more_images: Paths of the pictures after the first.
        more_sizes: Their widths and heights.
        box_images: The picture of each of `region_boxes`, counted from 0; empty for one picture.
        image_index: int64 [n_visual], the picture of each token, counted from 0; None for one
            picture.
    """

    id: str
    task: str
    question: str
    answers: tuple[str, ...]
    image: str
    size: tuple[int, int]
    region_boxes: tuple[Box, ...]
    polygons: tuple[Polygon, ...]
    positions: NDArray[np.int64]
    boxes: NDArray[np.float32]
    grid: tuple[tuple[int, int, int], ...]
    importance: NDArray[np.float32]
    per_head: NDArray[np.float32] | None
    region: NDArray[np.bool_]
    queries: NDArray[np.int64] | None = None
    query_text: tuple[str, ...] | None = None
    query_importance: NDArray[np.float32] | None = None
    query_per_head: NDArray[np.float32] | None = None
    more_images: tuple[str, ...] = ()
    more_sizes: tuple[tuple[int, int], ...] = ()
    box_images: tuple[int, ...] = ()
    image_index: NDArray[np.int64] | None = None


_SMALL = 16 << 20
"""Bytes of a profile's files up to which its rows stay in memory once they are read."""


class Profile:
    """A finished profile directory, read as a stream; the rows of a small one stay in memory.

    Attributes:
        directory: Where it lies.
        manifest: Model, data, options and versions of the run that made it.
        layers: Number of decoder layers.
        heads: Number of attention heads.
        importance: Name of the importance that it holds.
        queries: Whose rows it holds beside the last prompt token's; "last" for none.
        text_only: How many samples of its data have no picture, and therefore no row.

    Raises `ProfileError` where the directory holds none, an unfinished one or a damaged one.
    """

    def __init__(self, directory: Path | str) -> None:
        self._reader = ShardReader(directory, "profile")
        self.directory = self._reader.directory
        self.manifest = self._reader.manifest
        require(self.manifest, self.directory / MANIFEST, ProfileError, _MANIFEST_KEYS)
        if not self._reader.complete:
            data = self.manifest["identity"]["data"]
            raise ProfileError(
                f"the profile {directory} is unfinished: {len(self._reader)} of "
                f"{data['samples'] - data.get('text_only', 0)} samples; run the same command "
                "again to finish it"
            )
        self.layers: int = self.manifest["layers"]
        self.heads: int = self.manifest["heads"]
        options = self.manifest["identity"].get("options") or {}
        self.importance: str = options.get("importance", "attention")
        self.queries: str = options.get("queries", "last")
        self.text_only: int = self.manifest["identity"]["data"].get("text_only", 0)
        self._small = self._reader.size_bytes <= _SMALL
        self._read: list[ProfileRow] | None = None

    def __len__(self) -> int:
        return len(self._reader)

    def rows(self) -> Iterator[ProfileRow]:
        """Yield the samples in order, one shard in memory at a time.

        Of files of at most 16 MiB the rows are read once, and are the same objects every time.
        """
        if self._read is None:
            kept: list[ProfileRow] | None = [] if self._small else None
            for row in map(self._row, self._reader.rows()):
                if kept is not None:
                    kept.append(row)
                yield row
            self._read = kept
        else:
            yield from self._read

    def explore(self, samples: int = 24) -> Any:
        """The report's explorer in a notebook, of up to so many samples; see `Recording.explore`.

        Raises `OptionError` without anywidget (`pip install "tokenlens[notebook]"`), and
        `ResultsError` where it is not known what the visual tokens cover.
        """
        return drawing("profile explorer")(self, samples)

    def _row(self, row: dict[str, Any]) -> ProfileRow:
        visual = len(row["positions"])
        boxes = row["boxes"].reshape(visual, 4)
        first, *others = stored_sizes(row)
        heads = row.get("per_head")
        return ProfileRow(
            id=row["id"],
            task=row["task"],
            question=row["question"],
            answers=tuple(row["answers"]),
            image=row["image"],
            size=first,
            region_boxes=_tuples(row["region_boxes"]),
            polygons=_tuples(row["polygons"]),
            positions=row["positions"],
            boxes=boxes,
            grid=_tuples(row["grid"]),
            importance=row["importance"].reshape(self.layers, visual),
            per_head=None if heads is None else heads.reshape(self.layers, self.heads, visual),
            region=stored_region(row),
            **self._queries(row, visual),
            **self._further(row, others),
        )

    def _further(self, row: dict[str, Any], sizes: list[tuple[int, int]]) -> dict[str, Any]:
        """The pictures after the first, where there are any."""
        if not sizes:
            return {}
        return {
            "more_images": tuple(row["more_images"]),
            "more_sizes": tuple(sizes),
            "box_images": tuple(map(int, row["box_images"])),
            "image_index": row["image_index"],
        }

    def _queries(self, row: dict[str, Any], visual: int) -> dict[str, Any]:
        """The rows of other queries, where there are any."""
        queries, heads = row.get("queries"), row.get("query_per_head")
        if queries is None:
            return {}
        shape = len(queries), visual
        return {
            "queries": queries,
            "query_text": tuple(row["query_text"]),
            "query_importance": row["query_importance"].reshape(self.layers, *shape),
            "query_per_head": heads
            if heads is None
            else heads.reshape(self.layers, self.heads, *shape),
        }


def _tuples(value: Any) -> Any:
    """Nested lists as nested tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
