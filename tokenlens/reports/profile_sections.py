"""Sections about the profile: rank correlation, region overlap, and importance maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from tokenlens.analyses import (
    importance_maps,
    rank_correlation,
    region_overlap,
    shallow_deep_overlap,
)
from tokenlens.analyses.drawing.token_raster import rasterise
from tokenlens.probing.profile import Profile, ProfileRow
from tokenlens.registry import importance_unit
from tokenlens.reports.figures import FigureFolder, Plate
from tokenlens.reports.overlays import Overlay, colour_bar_uri, overlay, png_uri
from tokenlens.reports.sheet import Sheet
from tokenlens.reports.shown_samples import Candidate, choose_samples
from tokenlens.reports.wording import listed, signed
from tokenlens.wording.figures import percent, percent_interval


@dataclass(frozen=True)
class FigureSection:
    """A figure, its finding in words, and its numbers where they fit in a table."""

    plate: Plate
    finding: str
    table: list[dict[str, Any]]


@dataclass(frozen=True)
class MapTile:
    """One layer's map of one picture."""

    layer: int
    chosen: bool
    image: str


@dataclass(frozen=True)
class MapCase:
    """One sample with the maps of all layers."""

    question: str
    answers: str
    task: str
    missing: str | None
    overlay: Overlay
    tiles: list[MapTile]
    wide: bool


@dataclass(frozen=True)
class MapSection:
    """Pictures with the importance of every layer, and their one colour scale."""

    cases: list[MapCase]
    unit: str
    bar: str
    ticks: list[tuple[float, str]]
    """Position along the bar, 0 to 1, and its label."""


def correlation_section(
    frame: pd.DataFrame, chosen: Sequence[int], figures: FigureFolder
) -> FigureSection:
    """Rank correlation of importance between every two layers, from `rank_correlation.compute`."""
    values = frame.to_numpy()
    neighbours = np.diag(values, 1)
    finding = ""
    if len(neighbours):
        first = int(neighbours.argmin()) + 1
        finding = f"Neighbouring layers correlate {signed(neighbours.mean())} on average"
        if neighbours.min() < neighbours.max():
            finding += f", least from layer {first} to {first + 1} ({signed(neighbours.min())})"
        finding += "."
    pairs = [
        f"{signed(values[a - 1, b - 1])} between layers {a} and {b}" for a, b in pairwise(chosen)
    ]
    if pairs:
        finding += f" The chosen layers follow each other at {listed(pairs)}."
    plate = figures.plate(
        "rank-correlation",
        lambda theme: rank_correlation.plot(frame, chosen=chosen, theme=theme),
        f"Heat map of the rank correlation between all layers. {finding}",
    )
    return FigureSection(plate, finding, [])


def overlap_section(
    profile: Profile, chosen: Sequence[int], figures: FigureFolder
) -> FigureSection | None:
    """How much of the region each layer's top tokens cover; None where no sample has a region."""
    frame = region_overlap.compute(profile)
    if frame.empty:
        return None
    overall = frame[frame["task"] == frame["task"].iloc[0]].set_index("layer")
    top, scores = percent(region_overlap.TOP), overall["mean"]
    finding = _best_layers(overall, top)
    if chosen:
        parts = [f"{percent(scores[layer], 1)} in layer {layer}" for layer in chosen]
        finding += f" The chosen layers reach {listed(parts)}."
    plate = figures.plate(
        "region-overlap",
        lambda theme: region_overlap.plot(frame, chosen=chosen, theme=theme),
        f"Line of region recall by layer with 95 % intervals, over all samples and per task. "
        f"{finding}",
    )
    return FigureSection(plate, finding, _overlap_table(frame, chosen))


def _best_layers(overall: pd.DataFrame, top: str) -> str:
    """Sentence on the layer that covers the region best, or on several that do so equally."""
    best = overall[overall["mean"] == overall["mean"].max()]
    first = best.iloc[0]
    share = f"{percent(first['mean'], 1)} of its tokens"
    chance = f"where chance is about {top}."
    if len(best) == 1:
        ends = percent_interval(first["low"], first["high"])
        return (
            f"Layer {best.index[0]} covers the region best: {share} ({ends}) are among the "
            f"layer's top {top}, {chance}"
        )
    who = "All layers cover the region alike"
    if len(best) < len(overall):
        who = f"{len(best)} of {len(overall)} layers cover the region best, and alike"
    return f"{who}: {share} are among a layer's top {top}, {chance}"


def _overlap_table(frame: pd.DataFrame, chosen: Sequence[int]) -> list[dict[str, Any]]:
    """One row per layer, with a cell (mean, interval) per task."""
    rows = []
    for layer, part in frame.groupby("layer"):
        cells = {
            row["task"]: (percent(row["mean"], 1), percent_interval(row["low"], row["high"]))
            for row in part.to_dict("records")
        }
        rows.append({"layer": layer, "chosen": layer in chosen, "cells": cells})
    return rows


def shallow_deep_section(
    profile: Profile, chosen: Sequence[int], figures: FigureFolder
) -> FigureSection:
    """Share of a deep layer's important tokens that a shallow layer would remove."""
    frame = shallow_deep_overlap.compute(profile)
    values = np.triu(frame.to_numpy(), k=1)
    pairs = list(pairwise(chosen))
    if not pairs and profile.layers > 1:
        shallow, deep = np.unravel_index(values.argmax(), values.shape)
        pairs = [(int(shallow) + 1, int(deep) + 1)]
    top, bottom = percent(shallow_deep_overlap.TOP), percent(shallow_deep_overlap.BOTTOM)
    parts = [
        f"{percent(values[shallow - 1, deep - 1])} of layer {deep}'s top {top} lie in layer "
        f"{shallow}'s bottom {bottom}"
        for shallow, deep in pairs
    ]
    finding = f"{listed(parts)}; by chance it would be about {bottom}." if parts else ""
    plate = figures.plate(
        "shallow-deep-overlap",
        lambda theme: shallow_deep_overlap.plot(frame, chosen=chosen, theme=theme),
        f"Heat map of shallow against deep layers. {finding}",
    )
    return FigureSection(plate, finding, [])


def map_section(
    profile: Profile, chosen: Sequence[int], count: int, figures: FigureFolder
) -> MapSection | None:
    """Importance of every layer on some of the profile's pictures, all on one colour scale.

    None where no sample is to be shown, or where the positions of all visual tokens are unknown.
    """
    rows = chosen_rows(profile, count)
    if not rows:
        return None
    scale = importance_maps.Scale.shared((row.importance for row in rows), profile.importance)
    cases = []
    for number, row in enumerate(rows, start=1):
        sheet = Sheet.of(row)
        outlines = sheet.outlines(row)
        picture, missing = sheet.picture(row)
        maps = rasterise(sheet.boxes(row), row.importance)
        tiles = [
            MapTile(layer, layer in chosen, png_uri(scale.paint(one)))
            for layer, one in enumerate(maps, start=1)
        ]
        shown = overlay(picture, outlines)
        cases.append(
            MapCase(
                row.question, " / ".join(row.answers), row.task, missing, shown, tiles, sheet.wide
            )
        )
        figure = importance_maps.plot(
            importance_maps.compute([sheet.placed(row)]),
            {row.id: picture},
            regions={row.id: outlines},
            scale=scale,
            chosen=chosen,
            columns=sheet.columns,
        )
        figures.add(f"importance-{number}", figure)
    ticks = [(float(scale.norm(tick)), scale.label(tick)) for tick in scale.ticks]
    return MapSection(cases, importance_unit(profile.importance), colour_bar_uri(scale), ticks)


def chosen_rows(profile: Profile, count: int) -> list[ProfileRow]:
    """The rows to show, in the order of choice; the profile is streamed, twice."""
    places = choose_samples(
        (
            Candidate(index, row.task, row.image, bool(row.region.any()))
            for index, row in enumerate(profile.rows())
            if np.isfinite(row.boxes).all()
        ),
        count,
    )
    rows = {index: row for index, row in enumerate(profile.rows()) if index in set(places)}
    return [rows[place] for place in places]
