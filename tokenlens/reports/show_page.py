"""The page of `tokenlens show`: photographs, answers and attention maps in one offline file."""

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from numpy.typing import NDArray
from PIL.Image import Image, Resampling

from tokenlens.analyses.drawing.token_raster import corners, rasterise, shrunk
from tokenlens.analyses.importance_maps import GLOW
from tokenlens.analyses.kept_tokens import BACK_COLOUR
from tokenlens.reports.overlays import data_uri, png_uri
from tokenlens.reports.shown_answer import ShownAnswer
from tokenlens.reports.stage_sections import StageTile, stage_tile
from tokenlens.reports.templating import environment
from tokenlens.wording.figures import percent

MOST_BYTES = 3_000_000
"""Greatest size of a page with one photograph."""
_PHOTO_BYTES, _MAP_BYTES = 450_000, 1_500_000
"""Of a page, before they are written as text, which takes a third more: for all its photographs,
and for all its maps."""
_LONGEST, _SHORTEST = 1280, 320
"""Greatest and least length in pixels of a photograph's longer side."""
_SMALL = 720
"""Length in pixels to which a smaller photograph is enlarged."""
_LEVELS = 255


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
    style, script = (_asset(templates, name) for name in ("show.css", "show.js"))
    content = {
        "model": model,
        "schedule": schedule,
        "question": shown[0].question,
        "cases": [_case(one, len(shown)) for one in shown],
        "style": Markup(style),  # noqa: S704 - our own file
        "script": Markup(script),  # noqa: S704 - our own file
        "style_hash": _hash(style),
        "script_hash": _hash(script),
        "palette": _palette(),
        "back": BACK_COLOUR,
    }
    return templates.get_template("show.html.j2").render(content)


def quantised(maps: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Maps [..., n] as 8 bit, each by its own maximum, and these maxima [...].

    A value is its byte times the maximum, over 255: off by at most half of that.

    >>> bytes_, tops = quantised(np.array([[0.0, 0.1, 0.5]], dtype=np.float32))
    >>> bytes_.tolist(), tops.tolist()
    ([[0, 51, 255]], [0.5])
    """
    tops = maps.max(axis=-1, initial=0).astype(np.float64)
    tops = np.array([float(f"{top:.5g}") for top in tops.ravel()]).reshape(tops.shape)
    scaled = maps / np.where(tops > 0, tops, 1)[..., None] * _LEVELS
    return np.rint(scaled).clip(0, _LEVELS).astype(np.uint8), tops


def _case(shown: ShownAnswer, together: int) -> Case:
    maps, notes = _fitting(shown.maps, _MAP_BYTES // together)
    levels, tops = quantised(maps)
    places, (width, height) = corners(shown.boxes)
    words, layers, heads, _ = maps.shape
    data = {
        "layers": layers,
        "heads": heads - 1,
        "words": list(shown.words[:words]),
        "raster": [width, height],
        "corners": places.tolist(),
        "tops": tops.ravel().tolist(),
        "maps": base64.b64encode(levels.tobytes()).decode(),
    }
    mean = shown.mean
    return Case(
        name=shown.name,
        question=shown.question,
        answer=shown.answer,
        pruned=shown.pruned,
        width=shown.image.width,
        height=shown.image.height,
        photo=_photo(shown.image, _PHOTO_BYTES // together),
        mean=Markup(png_uri(_painted(rasterise(shown.boxes, mean / (mean.max() or 1))))),  # noqa: S704
        mean_top=percent(float(mean.max()), digits=None),
        words=shown.words[:words],
        layers=layers,
        heads=heads - 1,
        tiles=_tiles(shown),
        notes=notes,
        data=_embedded(data),
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


def _photo(image: Image, most: int) -> Markup:
    """The photograph as a JPEG of a limited number of bytes, in the largest size that fits."""
    longest, side = max(image.size), _LONGEST
    if longest < _SMALL:
        width, height = (max(1, round(edge * _SMALL / longest)) for edge in image.size)
        image = image.resize((width, height), Resampling.BICUBIC)
    while True:
        buffer, image = io.BytesIO(), shrunk(image, side)
        image.save(buffer, "JPEG", quality=82, optimize=True)
        if buffer.tell() <= most or side <= _SHORTEST:
            return Markup(data_uri("image/jpeg", buffer.getvalue()))  # noqa: S704 - no sign of HTML
        side = max(_SHORTEST, side * 3 // 4)


def _painted(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Colours of values 0 to 1: uint8 [height, width, 4], RGBA; NaN is transparent."""
    colours = GLOW(np.nan_to_num(values))
    colours[..., 3] = np.where(np.isnan(values), 0, colours[..., 3])
    painted: NDArray[np.uint8] = np.round(colours * 255).astype(np.uint8)
    return painted


def _palette() -> str:
    """The 256 colours of a map, RGBA, as Base64."""
    return base64.b64encode(_painted(np.linspace(0, 1, _LEVELS + 1)[None]).tobytes()).decode()


def _embedded(data: dict[str, Any]) -> Markup:
    """JSON that is safe inside a script element for any words."""
    text = json.dumps(data, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 - escaped right here


def _asset(templates: Environment, name: str) -> str:
    """Content of a style or script file of the page, for its element."""
    loader = templates.loader
    return "" if loader is None else loader.get_source(templates, name)[0]


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
