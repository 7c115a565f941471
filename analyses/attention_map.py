"""Attention map of one query token: table, figure and notebook view of a `Recording`."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokenlens.errors import ModelError, ProbeError
from tokenlens.wording.figures import percent
from tokenlens.wording.printable import printable

from .drawing.canvas import single
from .drawing.notebook import image_tag
from .drawing.style import LIGHT, PAGE, Theme, shorten, themed
from .drawing.token_raster import displayed, picture_tokens, rasterise, square_boxes

if TYPE_CHECKING:
    from tokenlens.models.layout import Layout
    from tokenlens.probing.reading import RecordedRows

_COLOURS = "inferno"
_VEIL = 0.6
"""Opacity of a map on its picture."""


def compute(recording: RecordedRows) -> pd.DataFrame:
    """All values of a recording, with the columns of `Recording.to_dataframe`."""
    kept = recording.keeps_heads
    texts: list[Any] = recording.tokens if recording.has_text else []
    parts = []
    values = recording.per_head if kept else recording.importance
    for sample, rows in enumerate(values):
        queries, positions = recording.queries[sample].numpy(), recording.positions[sample].numpy()
        shape = (rows.shape[0], rows.shape[1] if kept else 1, len(queries), len(positions))
        layer, head, query, visual = (axis.ravel() for axis in np.indices(shape))
        token = np.array(texts[sample] if texts else [None] * len(queries), dtype=object)
        part = pd.DataFrame({"sample": sample, "layer": layer + 1, "head": head + 1})
        part["query"], part["token"] = queries[query], token[query]
        part["visual"], part["position"] = visual, positions[visual]
        part["importance"] = rows.numpy().ravel()
        parts.append(part if kept else part.drop(columns="head"))
    return pd.concat(parts, ignore_index=True)


def plot(
    recording: RecordedRows,
    *,
    layer: int | None = None,
    query: int | str = -1,
    sample: int = 0,
    head: int | None = None,
    image: int = 0,
    picture: Any = None,
    layout: Layout | None = None,
    ax: Axes | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """One map of a recording; see `Recording.plot`.

    Raises `ProbeError` for a layer, head, query, sample or picture that was not recorded.
    """
    values, name = _chosen(recording, layer, query, sample, head)
    boxes, values, of_image = _of_picture(layout_of(recording, sample, layout), values, image)
    with themed(theme):
        figure, axes = single(ax, (PAGE / 2, PAGE / 2.2))
        aspect: float | Literal["equal"] = "equal"
        if picture is not None:
            shown = displayed(picture)
            axes.imshow(shown, extent=(0, 1, 1, 0), aspect="auto")
            height, width = shown.shape[:2]
            aspect = height / width
        drawn = axes.imshow(
            rasterise(boxes, values),
            extent=(0, 1, 1, 0) if picture is not None else None,
            cmap=_COLOURS,
            vmin=0,
            vmax=max(float(values.max(initial=0)), 1e-12),
            alpha=1 if picture is None else _VEIL,
            interpolation="nearest",
        )
        axes.set_aspect(aspect)
        axes.set(xticks=[], yticks=[])
        where = "mean of all layers" if layer is None else f"layer {layer}"
        of_head = "" if head is None else f", head {head}"
        axes.set_title(shorten(f"{printable(name)} · {where}{of_head}{of_image}", 60))
        bar = figure.colorbar(
            drawn,
            ax=axes,
            shrink=0.85,
            format=lambda value, _: (
                percent(value, digits=None) if recording.holds_attention else f"{value:.3g}"
            ),
            label=recording.unit,
        )
        bar.outline.set_visible(False)
    return figure


def to_html(recording: RecordedRows) -> str:
    """HTML of a recording for a notebook: its samples, their queries, and the first map."""
    try:
        figure, queries = plot(recording), recording.queries
        samples = [len(one) for one in queries]
        tokens = [len(one) for one in recording.positions]
        texts = recording.tokens[0] if recording.has_text else []
    except ProbeError as error:
        return f"<p>{html.escape(printable(str(error)))}</p>"
    words = " ".join(html.escape(printable(text)) for text in texts[:64])
    return (
        f"<p>Recording of {len(samples)} sample(s): {samples} query tokens, {tokens} visual tokens,"
        f" {recording.importance[0].shape[0]} layers.</p><p>First sample: <code>{words}</code></p>"
        + image_tag(figure, "importance for the last query, mean of all layers")
    )


def _chosen(
    recording: RecordedRows, layer: int | None, query: int | str, sample: int, head: int | None
) -> tuple[np.ndarray, str]:
    """The values of one map, float64 [n_visual], and the name of its query."""
    values = recording.per_head if head is not None else recording.importance
    rows = _one(values, sample, "sample", 0).numpy().astype(np.float64)
    if head is not None:
        rows = _one(list(rows.swapaxes(0, 1)), head, "head", 1)
    rows = rows.mean(axis=0) if layer is None else _one(list(rows), layer, "layer", 1)
    places = recording.queries[sample]
    rows = rows.reshape(len(places), -1)
    if isinstance(query, str):
        texts = recording.tokens[sample]
        found = [index for index, text in enumerate(texts) if text.strip() == query.strip()]
        if not found:
            known = ", ".join(repr(text) for text in texts[:12])
            raise ProbeError(f"query: got {query!r}, expected one of {known}")
        query = found[0]
    if not -len(places) <= query < len(places):
        raise ProbeError(f"query: got {query}, expected an index below {len(places)}")
    name = recording.tokens[sample][query].strip() if recording.has_text else ""
    return rows[query], f"“{name}”" if name else f"token at {int(places[query])}"


def _one(values: Any, number: int, what: str, first: int) -> Any:
    if not first <= number < first + len(values):
        raise ProbeError(
            f"{what}: got {number}, expected {first} to {first + len(values) - 1} of this recording"
        )
    return values[number - first]


def layout_of(recording: RecordedRows, sample: int, layout: Layout | None = None) -> Layout | None:
    """Where the visual tokens of a sample lie; None where that is not known."""
    if layout is None:
        try:
            layouts = recording.layouts()
        except ModelError:
            layouts = None
        layout = None if layouts is None else layouts[sample]
    return layout if layout is not None and layout.placed else None


def _of_picture(
    layout: Layout | None, values: np.ndarray, image: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """Boxes and values of one picture's tokens, and which of several it is, for a title.

    Where places are not known, all tokens stand in rows of a square.
    """
    if layout is None:
        return square_boxes(len(values)), values, ""
    own, of_image = picture_tokens(layout, image, ProbeError, "this recording")
    return layout.boxes.numpy().astype(np.float64)[own], values[own], of_image
