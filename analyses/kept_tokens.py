"""The fate of every visual token at every stage: kept, set aside, brought back, dropped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image

from tokenlens.errors import ResultsError
from tokenlens.samples.pictures import as_rgb
from tokenlens.schedule import Schedule, Stage
from tokenlens.schedule.disposal_kinds import disposal_kind, merge_count
from tokenlens.schedule.stage_words import stage_name

from .drawing.picture_sheet import (
    DOTS,
    ON_A_SHEET,
    REGION,
    Outline,
    Strip,
    Tile,
    frame_entry,
    outer_edges,
    plot_sheet,
)
from .drawing.style import LIGHT, Theme
from .drawing.token_raster import lay_over, rasterise, shrunk

BACK_COLOUR = "#ffb000"
"""Colour of the outlines of tokens that were brought back."""


class Fate(IntEnum):
    """What a stage does with a visual token."""

    KEPT = 0
    """Selected, as it was by the stage before."""
    BACK = 1
    """Selected, though the stage before had set it aside."""
    ASIDE = 2
    """Set aside by a bypass: a later stage can still select it."""
    SEED = 3
    """Not selected, and the seed of a group: a merged token continues in its place."""
    GONE = 4
    """Dropped, now or earlier, or merged into another: it cannot come back."""


def token_fates(
    stages: Sequence[Stage], selected: Sequence[np.ndarray], n_visual: int
) -> np.ndarray:
    """Each token's `Fate` at each stage: int64 [stages, n_visual].

    `selected[k]` holds the indices, ascending, of the visual tokens (0 to n_visual - 1) that stage
    k selected. Seeds of "merge" and "bypass" follow the bypass's rule: of the R tokens not kept, in
    sequence order, those at floor((i + 0.5) R / z) for i = 0 … z - 1. The result of other disposals
    depends on more than positions, so tokens not selected are GONE; a cluster of "recycle" that a
    later stage selects is KEPT there, at the position of its centre.

    >>> bypass = Stage(score_layer=1, when="after", keep=2, disposal="bypass", merge=1)
    >>> last = Stage(score_layer=3, when="before", keep=2, disposal="drop")
    >>> fates = token_fates([bypass, last], [np.array([0, 1]), np.array([1, 4])], 5)
    >>> [[Fate(fate).name for fate in stage] for stage in fates]
    [['KEPT', 'KEPT', 'ASIDE', 'SEED', 'ASIDE'], ['GONE', 'KEPT', 'GONE', 'GONE', 'BACK']]
    """
    fates = np.full((len(stages), n_visual), Fate.GONE, dtype=np.int64)
    candidates = np.arange(n_visual)
    aside = np.zeros(n_visual, dtype=bool)
    for fate, stage, kept in zip(fates, stages, selected, strict=True):
        rest = np.setdiff1d(candidates, kept)
        grouped = stage.disposal in ("merge", "bypass")
        merged = merge_count(stage.merge, len(rest)) if grouped else 0
        seeds = rest[((np.arange(merged) + 0.5) * len(rest) / max(1, merged)).astype(np.int64)]
        bypass = disposal_kind(stage.disposal).returns
        fate[rest] = Fate.ASIDE if bypass else Fate.GONE
        fate[seeds] = Fate.SEED
        fate[kept] = np.where(aside[kept], Fate.BACK, Fate.KEPT)
        aside[:] = False
        if bypass:
            aside[rest] = True
        else:
            candidates = np.union1d(kept, seeds)
    return fates


def row_fates(row: Mapping[str, Any], schedule: Schedule) -> np.ndarray:
    """`token_fates` of a row of `Results.rows` that was pruned by `schedule`."""
    positions = np.asarray(row["positions"])
    selected = [np.searchsorted(positions, stage) for stage in json.loads(row["selected"])]
    return token_fates(schedule.stages, selected, len(positions))


def veil(fates: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Black that dims what a stage did not keep: uint8 [height, width, 4] from fates [n]."""
    opacity = rasterise(boxes, np.array([_VEILS[Fate(fate)] for fate in fates]))
    colours = np.zeros((*opacity.shape, 4))
    colours[..., 3] = 255 * np.nan_to_num(opacity)
    return np.round(colours).astype(np.uint8)


_VEILS = {Fate.KEPT: 0.0, Fate.BACK: 0.0, Fate.ASIDE: 0.66, Fate.SEED: 0.66, Fate.GONE: 0.93}


def compute(rows: Iterable[Mapping[str, Any]], schedule: Schedule) -> pd.DataFrame:
    """The fate of every token, for some rows of `Results.rows` that were pruned by `schedule`.

    Columns: id, question, stage (from 1), where (as `stage_name`), token (from 0, in sequence
    order), x0, y0, x1, y1 (the part of the picture it covers, 0 to 1), fate (a `Fate`).

    Raises `ResultsError` for a sample with several pictures, whose tokens share no place.
    """
    parts = []
    for row in rows:
        if row.get("image_index") is not None:
            raise ResultsError(f"sample {row['id']!r} has several pictures; {ON_A_SHEET}")
        boxes, fates = np.reshape(row["boxes"], (-1, 4)), row_fates(row, schedule)
        for number, (stage, fate) in enumerate(zip(schedule.stages, fates, strict=True), start=1):
            part = pd.DataFrame(boxes, columns=["x0", "y0", "x1", "y1"])
            part.insert(0, "id", row["id"])
            part.insert(1, "question", row["question"])
            part.insert(2, "stage", number)
            part.insert(3, "where", stage_name(stage))
            part.insert(4, "token", np.arange(len(part)))
            part["fate"] = fate
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def plot(
    frame: pd.DataFrame,
    pictures: Mapping[str, Image.Image],
    *,
    regions: Mapping[str, Sequence[Outline]] | None = None,
    ax: Axes | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Plot each sample of `compute`'s frame: its picture, then one tile per stage.

    Kept tokens are bright, tokens set aside dim with dots on the seeds of merged tokens, dropped
    tokens black; tokens that came back are outlined. `pictures` are given by sample id; `regions`
    are outlined.
    """
    strips, seen = [], set[int]()
    for name, part in frame.groupby("id", sort=False):
        whole = as_rgb(pictures[name])
        size, picture = whole.size, shrunk(whole)
        outlines = [(corners, REGION) for corners in (regions or {}).get(name, ())]
        tiles = [Tile(picture, "picture", outlines=outlines)]
        for (_, where), stage in part.groupby(["stage", "where"], sort=False):
            fates = stage["fate"].to_numpy()
            boxes = stage[["x0", "y0", "x1", "y1"]].to_numpy()
            pixels = boxes * [*size, *size]
            back = [(edge, BACK_COLOUR) for edge in outer_edges(pixels[fates == Fate.BACK])]
            seen |= set(fates.tolist())
            kept = int((fates <= Fate.BACK).sum())
            seeds = pixels[fates == Fate.SEED]
            centres = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in seeds]
            image = lay_over(picture, veil(fates, boxes))
            caption = f"{where}\n{kept} of {len(fates)} kept"
            tiles.append(Tile(image, caption, outlines=[*back, *outlines], dots=centres))
        strips.append(Strip(part["question"].iloc[0], size, tiles))
    columns = max(4, max(len(strip.tiles) for strip in strips))
    legend = [entry for fate, entry in _entries(theme).items() if fate in seen]
    legend += [frame_entry(REGION, "region that the answer needs")] if regions else []
    return plot_sheet(strips, columns=min(7, columns), ax=ax, theme=theme, legend=legend)


def _entries(theme: Theme) -> dict[Fate, Artist]:
    """A legend's entry for each fate; seeds are dotted on top of what is set aside."""
    edge: dict[str, Any] = {"edgecolor": theme.faint, "linewidth": 0.6}
    return {
        Fate.KEPT: Patch(facecolor="white", label="kept: as in the picture", **edge),
        Fate.BACK: frame_entry(BACK_COLOUR, "brought back"),
        Fate.ASIDE: Patch(facecolor="#575757", label="set aside (dim)", **edge),
        Fate.SEED: Line2D([], [], label="merged token", **{**DOTS, "markersize": 4}),
        Fate.GONE: Patch(facecolor="#121212", label="gone", **edge),
    }
