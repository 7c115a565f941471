"""The explorer: a report's samples, layers, tokens and methods, to look through in the page."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Any, Self

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from tokenlens.analyses.kept_tokens import row_fates
from tokenlens.probing.profile import ProfileRow
from tokenlens.probing.stored_rows import stored_region
from tokenlens.reports.asked_maps import AskedMaps, asked_data, asked_maps, most_words
from tokenlens.reports.explored_runs import (
    Arm,
    ExploredModel,
    Key,
    choose,
    explored_models,
    key_of,
    read_answers,
)
from tokenlens.reports.inline import embedded, photograph
from tokenlens.reports.inputs import Inputs
from tokenlens.reports.map_data import places
from tokenlens.reports.sheet import Sheet
from tokenlens.schedule.stage_words import stage_name
from tokenlens.wording.figures import counted

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
    size, heads, words = 0, True, None
    for number, (model, keys) in enumerate(zip(models, chosen, strict=True)):
        measured = _measured(model, keys)
        room = MOST_MAP_BYTES * len(keys) // total
        heads = heads and (_size(measured) <= room or not _any_heads(measured))
        asked = [one.asked for one in measured.values()]
        fitting = most_words(asked, heads, room)
        words = min(filter(None, (words, fitting)), default=None)
        answered = [key for key in keys if key in model.answered]
        rows = read_answers([model.answered[key] for key in answered])
        outcomes = dict(zip(answered, rows, strict=True))
        for key in keys:
            shown = measured.get(key)
            first = shown and shown.first(fitting)
            sample = _sample(model, outcomes.get(key, {}), first, heads, total)
            size += len(json.dumps(sample))
            if samples and size > MOST_BYTES:
                break
            samples.append({"model": number, **sample})
    notes = _notes(models, len(samples), total, heads, words)
    return Explorer.of(list(map(_model, models)), samples, notes)


@dataclass(frozen=True)
class _Measured:
    """What profiles hold of a sample: the first one's row, and the maps of every asking token."""

    row: ProfileRow
    asked: list[AskedMaps]

    def first(self, count: int | None) -> Self:
        """The same with the first of its asking tokens; None keeps all."""
        return replace(self, asked=self.asked[:count])


def _measured(model: ExploredModel, keys: Sequence[Key]) -> dict[Key, _Measured]:
    """Chosen samples in the profiles; only rows that are placed like the sample's first."""
    wanted, found = set(keys), dict[Key, dict[str, ProfileRow]]()
    for name, row in model.profile_rows():
        if key_of(row) in wanted:
            rows = found.setdefault(key_of(row), {})
            first = next(iter(rows.values()), row)
            if np.array_equal(first.boxes, row.boxes):
                rows[name] = row
    profiles = model.profiles
    return {
        key: _Measured(next(iter(rows.values())), asked_maps(rows, profiles))
        for key, rows in found.items()
    }


def _size(measured: dict[Key, _Measured]) -> int:
    """Bytes of the maps of all heads."""
    return sum(asked.size(heads=True) for one in measured.values() for asked in one.asked)


def _any_heads(measured: dict[Key, _Measured]) -> bool:
    """Whether a profile holds the maps of heads, which can be left out then."""
    return any(asked.per_head.size for one in measured.values() for asked in one.asked)


def _model(model: ExploredModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "chosen": sorted({layer for one in model.inputs for layer in one.chosen}),
        "correlations": {
            name: frame.round(3).to_numpy().tolist() for name, frame in model.correlations.items()
        },
        "arms": [{"name": arm.name, "stages": _stage_names(arm)} for arm in model.arms],
    }


def _stage_names(arm: Arm) -> list[str]:
    return [stage_name(stage) for stage in arm.schedule.stages] if arm.schedule else []


def _sample(
    model: ExploredModel,
    rows: dict[int, pd.Series],
    measured: _Measured | None,
    heads: bool,
    together: int,
) -> dict[str, Any]:
    """One sample as the script reads it; its `places` are the raster of its maps, then of arms."""
    about: Any = measured.row if measured else next(iter(rows.values()))
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
        shared |= asked_data(measured.asked, about.region, heads)
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


def _notes(
    models: Sequence[ExploredModel], shown: int, total: int, heads: bool, words: int | None
) -> list[str]:
    notes = []
    if any(model.answered for model in models):
        notes.append(
            "Up to a third of the samples are those that lose most, so what is seen here is no "
            "average; the tables below are over all samples."
        )
    if shown < total:
        left = counted(total - shown, "more sample")
        are, they = ("is", "it") if total - shown == 1 else ("are", "they")
        notes.append(f"{left} {are} left out: {they} would make the page too large.")
    if not heads:
        notes.append("Heads are left out: they would make the page too large.")
    if words is not None:
        notes.append(
            f"Of the tokens that ask, at most {words} of a sample are here: more would make the "
            "page too large; `--samples` with a smaller number leaves room for more."
        )
    return notes
