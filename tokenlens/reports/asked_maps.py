"""A sample's maps in the explorer: of the last prompt token, and of the queries a profile holds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenlens.analyses.region_overlap import TOP
from tokenlens.measures.correlation import sample_rank_correlation
from tokenlens.measures.overlap import region_scores
from tokenlens.probing.profile import Profile, ProfileRow
from tokenlens.registry import importance_unit
from tokenlens.reports.map_data import FINE, map_data
from tokenlens.wording.printable import printable

_KINDS = {"generated": "answer", "text": "prompt"}
"""What the tokens of stored queries are called, by the profile's option."""


@dataclass(frozen=True)
class AskedMaps:
    """The maps of one asking token.

    Attributes:
        word: what it is called.
        importance: float32 [layers, n_visual].
        per_head: float32 [layers, heads, n_visual]; no head where none was recorded.
        shared: whether other samples have the same asking token, so that means over them are known.
        unit: what a value is; None for a share of attention.
    """

    word: str
    importance: NDArray[np.float32]
    per_head: NDArray[np.float32]
    shared: bool
    unit: str | None = None

    def size(self, heads: bool) -> int:
        """Bytes of the maps, with those of all heads or without."""
        return 2 * (self.importance.size + (self.per_head.size if heads else 0))

    def recall(self, region: NDArray[np.bool_]) -> list[float]:
        """The share of the region among each layer's top tokens."""
        scores = region_scores(self.importance, region, "recall", TOP)
        return [round(float(one), 4) for one in scores]


def asked_maps(rows: Mapping[str, ProfileRow], profiles: Mapping[str, Profile]) -> list[AskedMaps]:
    """Every asking token of a sample's rows: the last prompt tokens first, then stored queries.

    Rows and profiles are by the same names.
    """
    units = {name: _unit(profiles[name].importance) for name in rows}
    last = [
        AskedMaps(name, row.importance, _heads(row), True, units[name])
        for name, row in rows.items()
    ]
    stored = (
        replace(one, unit=units[name])
        for name, row in rows.items()
        for one in _queries(row, profiles[name].queries)
    )
    return [*last, *stored]


def _unit(importance: str) -> str | None:
    return None if importance == "attention" else importance_unit(importance)


def token_name(text: str) -> str:
    """What a token is called in a list: its text, or a sign for one of spaces alone."""
    return printable(text).strip() or "␣"


def asked_data(
    asked: Sequence[AskedMaps], region: NDArray[np.bool_], heads: bool
) -> dict[str, Any]:
    """A sample's `maps`, `recall` and `correlations` as the explorer's script reads them.

    Correlations are null where the mean over samples is shown.
    """
    heads = heads and len({one.per_head.shape for one in asked}) == 1
    parts = [
        np.concatenate([one.importance[:, None], *([one.per_head] if heads else [])], axis=1)
        for one in asked
    ]
    maps = map_data(np.stack(parts), [one.word for one in asked], FINE)
    return {
        "maps": {**maps, "units": [one.unit for one in asked]},
        "recall": [one.recall(region) for one in asked] if region.any() else None,
        "correlations": [
            None if one.shared else sample_rank_correlation(one.importance).round(2).tolist()
            for one in asked
        ],
    }


def most_words(samples: Iterable[Sequence[AskedMaps]], heads: bool, most_bytes: int) -> int | None:
    """How many asking tokens of each sample fit into so many bytes; None where all do, at least 1.

    >>> one = AskedMaps("x", np.zeros((2, 5), np.float32), np.zeros((2, 0, 5), np.float32), True)
    >>> most_words([[one, one], [one]], False, 60), most_words([[one, one], [one]], False, 59)
    (None, 1)
    """
    sizes = [[one.size(heads) for one in asked] for asked in samples]
    longest = max(map(len, sizes), default=0)
    for count in range(longest, 1, -1):
        if sum(sum(one[:count]) for one in sizes) <= most_bytes:
            return None if count == longest else count
    return 1 if longest > 1 else None


def _heads(row: ProfileRow) -> NDArray[np.float32]:
    layers, tokens = row.importance.shape
    return np.zeros((layers, 0, tokens), np.float32) if row.per_head is None else row.per_head


def _queries(row: ProfileRow, kind: str) -> list[AskedMaps]:
    if row.query_importance is None or row.query_text is None:
        return []
    found = []
    for place, text in enumerate(row.query_text):
        maps = row.query_importance[:, place]
        heads = row.query_per_head
        each = np.zeros((len(maps), 0, maps.shape[1]), np.float32)
        if heads is not None:
            each = heads[:, :, place]
        word = f"{_KINDS.get(kind, kind)} {place + 1}: {token_name(text)}"
        found.append(AskedMaps(word, maps, each, False))
    return found
