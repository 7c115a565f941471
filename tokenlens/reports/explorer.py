"""The explorer: a report's samples, layers, tokens and methods, to look through in the page."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, Self

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from tokenlens.analyses import rank_correlation
from tokenlens.analyses.kept_tokens import row_fates, stage_name
from tokenlens.probing.profile import Profile, ProfileRow
from tokenlens.probing.stored_rows import stored_region
from tokenlens.reports.explored_runs import (
    Arm,
    ExploredModel,
    Key,
    choose,
    explored_models,
    key_of,
    recall,
)
from tokenlens.reports.inline import embedded, photograph
from tokenlens.reports.inputs import Inputs
from tokenlens.reports.map_data import FINE, map_data, places
from tokenlens.reports.sheet import Sheet

MOST_BYTES = 6_000_000
"""How much of the page the explorer takes at most; a first sample is always shown."""
_PHOTO_BYTES, _MOST_PHOTO_BYTES = 2_000_000, 120_000
"""Of all photographs, and of one, before they are written as text."""
MOST_MAP_BYTES = 2_500_000
"""Of all maps, before they are written as text: where every head takes more, heads are left out."""


@dataclass(frozen=True)
class Explorer:
    """What the template shows of the explorer.

    Attributes:
        data: everything its script reads, as JSON.
        notes: which samples are there, and what was left out, a sentence each.
        samples: how many samples are there.
        layers: of the deepest map; 0 where no sample has maps.
    """

    data: Markup
    notes: list[str]
    samples: int
    layers: int

    @classmethod
    def of(
        cls,
        models: Sequence[dict[str, Any]],
        samples: Sequence[dict[str, Any]],
        notes: list[str],
    ) -> Self:
        """Of models and samples as the script reads them."""
        layers = max((one["maps"]["layers"] for one in samples if one["maps"]), default=0)
        data = embedded({"models": models, "samples": samples})
        return cls(data, notes, len(samples), layers)


def explorer(parts: Sequence[Inputs], count: int) -> Explorer | None:
    """Up to `count` samples of a report's inputs; None where none is to be had.

    Each sample has the maps of its profile in 16 bits, each map by its own maximum, and what each
    arm answered and kept. Left out are samples whose visual tokens have no known place.
    """
    models = explored_models(parts)
    chosen = [choose(model, -(-count // len(models))) for model in models]
    total = sum(map(len, chosen))
    if total == 0:
        return None
    samples: list[dict[str, Any]] = []
    size, heads = 0, True
    for number, (model, keys) in enumerate(zip(models, chosen, strict=True)):
        measured = _measured(model, keys)
        heads = heads and _size(measured) * total // max(1, len(keys)) <= MOST_MAP_BYTES
        for key in keys:
            sample = _sample(model, key, measured.get(key, {}), heads, total)
            size += len(json.dumps(sample))
            if samples and size > MOST_BYTES:
                break
            samples.append({"model": number, **sample})
    notes = _notes(models, len(samples), total, heads)
    return Explorer.of(list(map(_model, models)), samples, notes)


def _measured(model: ExploredModel, keys: Sequence[Key]) -> dict[Key, dict[str, ProfileRow]]:
    """Chosen samples' rows by what their profile is called; only those placed like the first."""
    wanted, found = set(keys), dict[Key, dict[str, ProfileRow]]()
    for name, row in model.profile_rows():
        if key_of(row) in wanted:
            rows = found.setdefault(key_of(row), {})
            first = next(iter(rows.values()), row)
            if np.array_equal(first.boxes, row.boxes):
                rows[name] = row
    return found


def _size(measured: dict[Key, dict[str, ProfileRow]]) -> int:
    """Bytes of the maps of all heads."""
    rows = [row for named in measured.values() for row in named.values()]
    return sum(2 * (row.importance.size + _per_head(row).size) for row in rows)


def _per_head(row: ProfileRow) -> NDArray[np.float32]:
    """float32 [layers, heads, n_visual]; no head where none was recorded."""
    layers, tokens = row.importance.shape
    return np.zeros((layers, 0, tokens), np.float32) if row.per_head is None else row.per_head


def _model(model: ExploredModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "chosen": sorted({layer for one in model.inputs for layer in one.chosen}),
        "correlations": {name: _correlation(one) for name, one in model.profiles.items()},
        "arms": [{"name": arm.name, "stages": _stage_names(arm)} for arm in model.arms],
    }


def _stage_names(arm: Arm) -> list[str]:
    return [stage_name(stage) for stage in arm.schedule.stages] if arm.schedule else []


def _correlation(profile: Profile) -> list[list[float]]:
    """Mean rank correlation between layers, in three digits."""
    rounded: list[list[float]] = rank_correlation.compute(profile).round(3).to_numpy().tolist()
    return rounded


def _sample(
    model: ExploredModel, key: Key, measured: dict[str, ProfileRow], heads: bool, together: int
) -> dict[str, Any]:
    """One sample as the script reads it; its `places` are the raster of its maps, then of arms."""
    rows = model.answered[key].read() if key in model.answered else {}
    about: Any = next(iter([*measured.values(), *rows.values()]))
    sheet = Sheet.of(about)
    picture, missing = sheet.picture(about)
    rasters: list[dict[str, Any]] = []
    shared = {
        "id": about.id,
        "task": about.task,
        "question": about.question,
        "answers": list(about.answers),
        "pictures": len(sheet.frames),
        "width": sheet.size[0],
        "height": sheet.size[1],
        "missing": missing,
        "photo": photograph(picture, photo_bytes(together), least_side=0),
        "regions": [
            " ".join(f"{x:g},{y:g}" for x, y in outline) for outline in sheet.outlines(about)
        ],
        "places": rasters,
        "maps": None,
        "recall": None,
    }
    if measured:
        shared["maps"] = _maps(measured, heads)
        if about.region.any():
            shared["recall"] = [recall(row) for row in measured.values()]
        _place(rasters, sheet.boxes(about), about.region)
    outcomes = [
        {
            "arm": number,
            **_outcome(model.arms[number], row),
            "place": _place_of(rasters, sheet, row),
        }
        for number, row in rows.items()
    ]
    return {**shared, "outcomes": outcomes}


def photo_bytes(together: int) -> int:
    """How large each of so many photographs may be."""
    return min(_MOST_PHOTO_BYTES, _PHOTO_BYTES // together)


def _maps(rows: dict[str, ProfileRow], heads: bool) -> dict[str, Any]:
    """The maps of each profile, with those of all heads where each has them."""
    if len({_per_head(row).shape for row in rows.values()}) > 1:
        heads = False
    parts = [
        np.concatenate([row.importance[:, None], *([_per_head(row)] if heads else [])], axis=1)
        for row in rows.values()
    ]
    return map_data(np.stack(parts), list(rows), FINE)


def _outcome(arm: Arm, row: pd.Series) -> dict[str, Any]:
    """What an arm answered, and each token's fate (a digit, see `Fate`) at each of its stages."""
    fates = row_fates(row, arm.schedule) if arm.schedule else np.empty((0, 0), np.int64)
    return {
        "prediction": row["prediction"],
        "score": None if isnan(row["score"]) else row["score"],
        "tokens": round(float(np.mean(row["tokens_per_layer"])), 1),
        "fates": ["".join(map(str, stage)) for stage in fates.tolist()],
    }


def _place_of(rasters: list[dict[str, Any]], sheet: Sheet, row: pd.Series) -> int:
    return _place(rasters, sheet.boxes(row), stored_region(row))


def _place(rasters: list[dict[str, Any]], boxes: NDArray[Any], region: NDArray[np.bool_]) -> int:
    """The number of these tokens' raster, which is added where it is new."""
    raster = {**places(boxes), "region": np.flatnonzero(region).tolist()}
    if raster not in rasters:
        rasters.append(raster)
    return rasters.index(raster)


def _notes(models: Sequence[ExploredModel], shown: int, total: int, heads: bool) -> list[str]:
    notes = []
    if any(model.answered for model in models):
        notes.append(
            "Up to a third of the samples are those that lose most, so what is seen here is no "
            "average; the tables below are over all samples."
        )
    if shown < total:
        notes.append(
            f"{total - shown} more samples are left out: they would make the page too large."
        )
    if not heads:
        notes.append("Heads are left out: they would make the page too large.")
    return notes
