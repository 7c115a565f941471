"""Fate of every visual token at a stage: table, figure and notebook view of a `Trace`."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tokenlens.errors import PruningError
from tokenlens.wording.printable import printable

from .drawing.canvas import single
from .drawing.style import LIGHT, PAGE, Theme, themed
from .drawing.token_raster import displayed, picture_tokens, rasterise, square_boxes
from .kept_tokens import BACK_COLOUR, Fate

if TYPE_CHECKING:
    from tokenlens.models.layout import Layout
    from tokenlens.pruning.trace import Trace

FATES = {
    Fate.KEPT: "kept",
    Fate.BACK: "brought back",
    Fate.ASIDE: "set aside",
    Fate.SEED: "place of a merged token",
    Fate.GONE: "gone",
}
_COLOURS = ("#4c9f70", BACK_COLOUR, "#8fa3bf", "#f4f1de", "#2b2f36")
_VEIL = 0.7


def compute(trace: Trace) -> pd.DataFrame:
    """The fate of each visual token at each stage, with the columns of `Trace.to_dataframe`.

    A token is brought back where it is selected though the stage before had not selected it, and
    set aside where the next stage chooses among it again.
    """
    parts = []
    for sample in range(len(trace.tokens_per_layer)):
        stages = trace.stages
        tokens = stages[0].candidates[sample].numpy() if stages else np.empty(0, np.int64)
        before, merged = np.ones(len(tokens), bool), np.zeros(len(tokens), bool)
        for number, stage in enumerate(stages, start=1):
            own = {
                name: np.isin(tokens, getattr(stage, name)[sample].numpy())
                for name in ("candidates", "selected", "merged")
            }
            later: Any = stages[number].candidates[sample].numpy() if number < len(stages) else []
            again = np.isin(tokens, later) & ~own["selected"]
            fates = np.full(len(tokens), int(Fate.GONE))
            fates[again] = Fate.ASIDE
            fates[own["merged"]] = Fate.SEED
            fates[own["selected"]] = Fate.KEPT
            fates[own["selected"] & ~before & ~merged] = Fate.BACK
            scores = np.full(len(tokens), np.nan)
            scores[own["candidates"]] = stage.scores[sample].numpy()[: own["candidates"].sum()]
            parts.append(
                pd.DataFrame(
                    {
                        "sample": sample,
                        "stage": number,
                        "visual": np.arange(len(tokens)),
                        "position": tokens,
                        "fate": [FATES[Fate(fate)] for fate in fates],
                        "score": scores,
                    }
                )
            )
            returned = again.any() and bool(again[~own["selected"] & own["candidates"]].all())
            before = own["selected"]
            merged = np.zeros(len(tokens), bool) if returned else own["merged"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def plot(
    trace: Trace,
    *,
    stage: int = 1,
    sample: int = 0,
    image: int = 0,
    picture: Any = None,
    layout: Layout | None = None,
    ax: Axes | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """One stage of one sample; see `Trace.plot`. Raises `PruningError` for a missing one.

    Where tokens overlap, such as an overview and its tiles, their colours are mixed.
    """
    frame = compute(trace)
    known = frame.groupby(["sample", "stage"]).size().index if len(frame) else []
    if (sample, stage) not in known:
        raise PruningError(
            f"got stage {stage} of sample {sample}; expected one of {len(trace.stages)} stages, "
            f"counted from 1, and of {len(trace.tokens_per_layer)} samples, counted from 0"
        )
    part = frame[(frame["sample"] == sample) & (frame["stage"] == stage)]
    boxes, part, of_image = _of_picture(layout, part, image)
    names = list(FATES.values())
    counts = part["fate"].value_counts()
    colours = dict(zip(names, map(to_rgb, _COLOURS), strict=True))
    mixed = rasterise(boxes, np.array([colours[fate] for fate in part["fate"]]).T)
    veil = np.where(np.isnan(mixed[:1]), 0, 1 if picture is None else _VEIL)
    pixels = np.moveaxis(np.concatenate([np.nan_to_num(mixed), veil]), 0, -1)
    shown = None if picture is None else displayed(picture)
    with themed(theme):
        figure, axes = single(ax, (PAGE / 2, PAGE / 2))
        if shown is not None:
            axes.imshow(shown, extent=(0, 1, 1, 0), aspect="auto")
        axes.imshow(
            pixels,
            extent=(0, 1, 1, 0),
            interpolation="nearest",
            aspect="auto" if shown is None else np.divide(*shown.shape[:2]),
        )
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"stage {stage}{of_image}")
        axes.legend(
            handles=[
                Patch(color=colours[name], label=f"{name}: {counts[name]}")
                for name in names
                if name in counts
            ],
            loc="upper center",
            bbox_to_anchor=(0.5, -0.02),
            ncols=2,
            frameon=False,
        )
    return figure


def _of_picture(
    layout: Layout | None, part: pd.DataFrame, image: int
) -> tuple[np.ndarray, pd.DataFrame, str]:
    """Boxes and rows of one picture's tokens, and which of several it is, for a title.

    Without places of just these tokens all of them stand in rows of a square.
    """
    if layout is None or not layout.placed or len(layout.boxes) != len(part):
        return square_boxes(len(part)), part, ""
    own, of_image = picture_tokens(layout, image, PruningError, "this sample")
    return layout.boxes.numpy()[own], part[own], of_image


def to_html(trace: Trace) -> str:
    """HTML of a trace for a notebook: the number of tokens of each fate at each stage."""
    try:
        frame = compute(trace)
    except PruningError as error:
        return f"<p>{html.escape(printable(str(error)))}</p>"
    if not len(frame):
        return "<p>A schedule without stages: nothing was pruned.</p>"
    table = frame.pivot_table(
        index=["sample", "stage"], columns="fate", values="visual", aggfunc="count", fill_value=0
    )
    shown = [name for name in FATES.values() if name in table]
    text: str = table[shown].to_html(border=0)
    return f"<p>Visual tokens by what became of them.</p>{text}"
