"""The figures of a paper: each by its name, drawn from a profile, results, or both."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol

import pandas as pd
from matplotlib.figure import Figure

from tokenlens.analyses import (
    attention_sinks,
    importance_maps,
    information,
    kept_by_method,
    kept_tokens,
    layers_by_method,
    methods_at_budgets,
    quality_against_cost,
    rank_correlation,
    region_heads,
    region_overlap,
    retained,
    selection_fidelity,
    shallow_deep_overlap,
    tokens_per_layer,
    tuning_front,
)
from tokenlens.analyses.drawing.picture_sheet import Outline
from tokenlens.analyses.drawing.style import LIGHT, Theme
from tokenlens.probing.profile import Profile
from tokenlens.reports.collecting import collecting_less
from tokenlens.reports.figures import FigureFolder
from tokenlens.reports.inputs import Inputs, read_inputs
from tokenlens.reports.profile_sections import chosen_rows
from tokenlens.reports.sheet import Sheet
from tokenlens.reports.shown_samples import candidates, choose_samples
from tokenlens.schedule import Schedule
from tokenlens.storage.output_claims import claim_figures
from tokenlens.storage.output_paths import Runs
from tokenlens.tuning.goal import OBJECTIVES

PRINTED = (".pdf", ".svg", ".png")
"""What a paper's figures are written as, where nothing else is asked for."""
PAPER = replace(LIGHT, width=6.75)
"""How they look, where nothing else is asked for."""
Scaling = Literal["shared", "layer"]


@dataclass(frozen=True)
class Request:
    """What is drawn, and how.

    Attributes:
        inputs: a profile, results, or both, that belong together.
        theme: colours, width and font.
        pictures: how many samples are shown on their pictures.
        scale: of importance maps: one for all layers, or each layer's own.
    """

    inputs: Inputs
    theme: Theme
    pictures: int = 2
    scale: Scaling = "shared"


Drawn = Iterator[tuple[str, Figure]]


@collecting_less()
def draw_figures(
    runs: Runs,
    schedule: Schedule | None,
    out: Path,
    *,
    formats: Sequence[str] = PRINTED,
    theme: Theme = PAPER,
    pictures: int = 2,
    scale: Scaling = "shared",
) -> dict[str, list[Path]]:
    """Draw every figure that the runs have the numbers for; further runs' in folders 2, 3, ….

    `schedule` marks the layers of the first runs; other arguments are those of `Request`. Returns
    the files of each figure by its name; one without numbers (no regions, the unpruned model alone)
    is left out. Errors are those of `build_report`.
    """
    claim_figures(out)
    files: dict[str, list[Path]] = {}
    for number, one in enumerate((runs, *runs.further), start=1):
        place = f"{number}/" if number > 1 else ""
        folder = FigureFolder(out / place, formats, theme)
        inputs = read_inputs(
            one.profile,
            None if place else schedule,
            one.results,
            information=one.information,
            tuning=one.tuning,
        )
        for draw in FIGURES.values():
            for name, figure in draw(Request(inputs, theme, pictures, scale)):
                before = len(folder.files)
                folder.add(name, figure)
                files[place + name] = folder.files[before:]
    return files


class _ByLayer(Protocol):
    """An analysis of a profile whose figure marks the chosen layers."""

    def compute(self, profile: Profile) -> pd.DataFrame: ...

    def plot(
        self, frame: pd.DataFrame, *, chosen: Sequence[int] = ..., theme: Theme = ...
    ) -> Figure: ...


def _by_layer(name: str, analysis: _ByLayer, least_layers: int = 1) -> Callable[[Request], Drawn]:
    """Draws an analysis of the profile where it has so many layers, and numbers."""

    def draw(request: Request) -> Drawn:
        profile = request.inputs.profile
        if profile and profile.layers >= least_layers:
            frame = analysis.compute(profile)
            if not frame.empty:
                chosen, theme = request.inputs.chosen, request.theme
                yield name, analysis.plot(frame, chosen=chosen, theme=theme)

    return draw


def _importance(request: Request) -> Drawn:
    profile = request.inputs.profile
    rows = chosen_rows(profile, request.pictures) if profile else []
    kind = profile.importance if profile else "attention"
    shared = importance_maps.Scale.shared((row.importance for row in rows), kind)
    for number, row in enumerate(rows, start=1):
        sheet = Sheet.of(row)
        figure = importance_maps.plot(
            importance_maps.compute([sheet.placed(row)]),
            {row.id: sheet.picture(row)[0]},
            regions=_regions(row.id, sheet.outlines(row)),
            scale="layer" if request.scale == "layer" else shared,
            kind=kind,
            chosen=request.inputs.chosen,
            columns=sheet.columns,
            theme=request.theme,
        )
        yield f"importance-{number}", figure


def _tokens_per_layer(request: Request) -> Drawn:
    comparison = request.inputs.comparison
    if comparison and comparison.plan:
        shares = layers_by_method.compute(comparison)
        yield "layers-by-method", layers_by_method.plot(shares, theme=request.theme)
    elif comparison:
        frame = tokens_per_layer.compute(comparison)
        chosen, theme = request.inputs.chosen, request.theme
        yield "tokens-per-layer", tokens_per_layer.plot(frame, chosen=chosen, theme=theme)


def _quality(request: Request) -> Drawn:
    if comparison := request.inputs.comparison:
        frame = retained.compute(comparison)
        yield "quality-by-task", retained.plot(frame, theme=request.theme)
        if comparison.plan:
            averages = methods_at_budgets.compute(comparison)
            if averages["retained"].notna().any():
                figure = methods_at_budgets.plot(averages, theme=request.theme)
                yield "methods-at-budgets", figure
                costs = quality_against_cost.compute(comparison)
                figure = quality_against_cost.plot(costs, theme=request.theme)
                yield "quality-against-cost", figure


def _selection_fidelity(request: Request) -> Drawn:
    profile, comparison = request.inputs.profile, request.inputs.comparison
    if profile and comparison:
        layer = max(request.inputs.chosen, default=selection_fidelity.reading_layer(comparison))
        frame = selection_fidelity.compute(profile, comparison, layer=layer)
        if not frame.empty:
            figure = selection_fidelity.plot(frame, layer=layer, theme=request.theme)
            yield "selection-fidelity", figure


def _kept_tokens(request: Request) -> Drawn:
    inputs = request.inputs
    if not (inputs.comparison and inputs.arm and inputs.schedule and inputs.schedule.stages):
        return
    results = inputs.comparison.arms[inputs.arm]
    places = choose_samples(candidates(results), request.pictures)
    for number, place in enumerate(places, start=1):
        row = results.at([place]).iloc[0]
        sheet = Sheet.of(row)
        figure = kept_tokens.plot(
            kept_tokens.compute([sheet.placed(row)], inputs.schedule),
            {row["id"]: sheet.picture(row)[0]},
            regions=_regions(row["id"], sheet.outlines(row)),
            theme=request.theme,
        )
        yield f"kept-tokens-{number}", figure


def _kept_by_method(request: Request) -> Drawn:
    comparison = request.inputs.comparison
    if not (comparison and comparison.plan and comparison.methods):
        return
    budget, methods = next(iter(comparison.methods.items()))
    shown = next(iter(comparison.arms.values()))
    for number, place in enumerate(choose_samples(candidates(shown), request.pictures), start=1):
        rows = {name: comparison.arms[arm].at([place]).iloc[0] for name, arm in methods.items()}
        whole = shown.at([place]).iloc[0]
        sheet = Sheet.of(whole)
        frame = kept_by_method.compute({name: sheet.placed(row) for name, row in rows.items()})
        if not frame.empty:
            figure = kept_by_method.plot(
                frame,
                {whole["id"]: sheet.picture(whole)[0]},
                regions=_regions(whole["id"], sheet.outlines(whole)),
                budget=budget,
                theme=request.theme,
            )
            yield f"kept-by-method-{number}", figure


def _information(request: Request) -> Drawn:
    if found := request.inputs.information:
        table = found.table()
        yield "information", information.overview(table, theme=request.theme)
        for curve in information.MEANINGS:
            yield f"information-{curve}", information.plot(table, curve, theme=request.theme)


def _tuning(request: Request) -> Drawn:
    if found := request.inputs.tuning:
        frame = tuning_front.compute(found)
        cost, least = OBJECTIVES[found.goal.objective], found.goal.least
        figure = tuning_front.plot(
            frame, cost=cost, quality=found.goal.quality, least=least, theme=request.theme
        )
        yield "tuning-front", figure


def _regions(name: str, outlines: list[Outline]) -> dict[str, list[Outline]]:
    """The region of a sample where it has one, so that a legend names none that is not there."""
    return {name: outlines} if outlines else {}


FIGURES: Mapping[str, Callable[[Request], Drawn]] = MappingProxyType(
    {
        "rank-correlation": _by_layer("rank-correlation", rank_correlation),
        "shallow-deep-overlap": _by_layer("shallow-deep-overlap", shallow_deep_overlap, 2),
        "region-overlap": _by_layer("region-overlap", region_overlap),
        "region-heads": _by_layer("region-heads", region_heads),
        "attention-sinks": _by_layer("attention-sinks", attention_sinks),
        "importance": _importance,
        "layers": _tokens_per_layer,
        "quality": _quality,
        "selection-fidelity": _selection_fidelity,
        "kept-tokens": _kept_tokens,
        "kept-by-method": _kept_by_method,
        "information": _information,
        "tuning": _tuning,
    }
)
"""Every figure by its name; each yields none where the inputs lack its numbers."""
