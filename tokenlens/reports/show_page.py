"""The page of `tokenlens show`: photographs, answers and attention maps in one offline file."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from tokenlens.analyses.drawing.token_raster import rasterise
from tokenlens.analyses.kept_tokens import BACK_COLOUR
from tokenlens.reports.inline import assets, embedded, photograph
from tokenlens.reports.map_data import map_data, painted, palette, places
from tokenlens.reports.overlays import png_uri
from tokenlens.reports.shown_answer import ShownAnswer
from tokenlens.reports.stage_sections import StageTile, stage_tile
from tokenlens.reports.templating import environment
from tokenlens.wording.figures import percent

MOST_BYTES = 3_000_000
"""Greatest size of a page with one photograph."""
_PHOTO_BYTES, _MAP_BYTES = 450_000, 1_500_000
"""Of a page, before they are written as text, which takes a third more: for all its photographs,
and for all its maps."""


@dataclass(frozen=True)
class Case:
    """One photograph as the template shows it."""

    name: str
    question: str
    answer: str
    pruned: str | None
    width: int
    height: int
    photo: Markup
    mean: Markup
    mean_top: str
    words: tuple[str, ...]
    layers: int
    heads: int
    tiles: list[StageTile]
    notes: list[str]
    data: Markup


def show_page(shown: Sequence[ShownAnswer], model: str, schedule: str | None = None) -> str:
    """The whole page as HTML.

    Args:
        shown: the answers, one per photograph.
        model: name of the model.
        schedule: name of the schedule; None without one.

    The page loads no other file; only scripts and styles with listed hashes may run.
    """
    templates = environment()
    style = assets(templates, "maps.css", "show.css")
    script = assets(templates, "maps.js", "page.js", "show.js")
    content = {
        "model": model,
        "schedule": schedule,
        "question": shown[0].question,
        "cases": [_case(one, len(shown)) for one in shown],
        "style": style,
        "script": script,
        "palette": palette(),
        "back": BACK_COLOUR,
    }
    return templates.get_template("show.html.j2").render(content)


def _case(shown: ShownAnswer, together: int) -> Case:
    maps, notes = _fitting(shown.maps, _MAP_BYTES // together)
    words, layers, heads, _ = maps.shape
    data = {**map_data(maps, shown.words[:words]), **places(shown.boxes)}
    mean = shown.mean
    return Case(
        name=shown.name,
        question=shown.question,
        answer=shown.answer,
        pruned=shown.pruned,
        width=shown.image.width,
        height=shown.image.height,
        photo=Markup(photograph(shown.image, _PHOTO_BYTES // together)),  # noqa: S704 - no sign of HTML
        mean=Markup(png_uri(painted(rasterise(shown.boxes, mean / (mean.max() or 1))))),  # noqa: S704
        mean_top=percent(float(mean.max()), digits=None),
        words=shown.words[:words],
        layers=layers,
        heads=heads - 1,
        tiles=_tiles(shown),
        notes=notes,
        data=embedded(data),
    )


def _fitting(maps: NDArray[np.float32], most: int) -> tuple[NDArray[np.float32], list[str]]:
    """As many maps [words, layers, heads, n] as fit: without heads first, then fewer words."""
    notes = []
    if maps.shape[2] > 1 and maps.size > most:
        notes.append("Heads are left out: they would make the page too large.")
        maps = maps[:, :, :1]
    if maps.size > most:
        words = max(1, most // maps[0].size)
        notes.append(f"The first {words} of {len(maps)} words have maps; more would be too large.")
        maps = maps[:words]
    return maps, notes


def _tiles(shown: ShownAnswer) -> list[StageTile]:
    if shown.stages is None:
        return []
    return [
        stage_tile(where, part, shown.image.size)
        for (_, where), part in shown.stages.groupby(["stage", "where"], sort=False)
    ]
