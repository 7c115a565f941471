"""Which tokens does each method end with? The last selections side by side, on one picture.

SwiftVLM (arXiv 2602.03134, Fig. 6) shows them so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from tokenlens.errors import ResultsError
from tokenlens.samples.pictures import as_rgb

from .drawing.picture_sheet import (
    ON_A_SHEET,
    REGION,
    Outline,
    Strip,
    Tile,
    frame_entry,
    plot_sheet,
)
from .drawing.style import LIGHT, Theme
from .drawing.token_raster import lay_over, shrunk
from .kept_tokens import Fate, veil

_PLACE = ["x0", "y0", "x1", "y1"]


def compute(rows: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The last selection of each method, from rows of `Results.rows` of one sample, by method.

    Columns: id, question, method, token (from 0, in sequence order), x0, y0, x1, y1 (the part of
    the picture it covers, 0 to 1), kept (whether the method's last stage selected it), score (of
    the method's answer; NaN without ground truth). Methods without a stage are left out.

    Raises `ResultsError` for a sample with several pictures, whose tokens share no place.
    """
    parts = []
    for method, row in rows.items():
        if row.get("image_index") is not None:
            raise ResultsError(f"sample {row['id']!r} has several pictures; {ON_A_SHEET}")
        if stages := json.loads(row["selected"]):
            part = pd.DataFrame(np.reshape(row["boxes"], (-1, 4)), columns=_PLACE)
            part.insert(0, "id", row["id"])
            part.insert(1, "question", row["question"])
            part.insert(2, "method", method)
            part.insert(3, "token", np.arange(len(part)))
            part["kept"] = np.isin(row["positions"], stages[-1])
            part["score"] = float("nan") if row["score"] is None else float(row["score"])
            parts.append(part)
    empty = pd.DataFrame(columns=["id", "question", "method", "token", *_PLACE, "kept", "score"])
    return pd.concat(parts, ignore_index=True) if parts else empty


def plot(
    frame: pd.DataFrame,
    pictures: Mapping[str, Image.Image],
    *,
    regions: Mapping[str, Sequence[Outline]] | None = None,
    budget: str = "",
    ax: Axes | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Plot each sample of `compute`'s frame: its picture, then a tile per method.

    Tokens of the last selection are bright, all others black; captions count them and give the
    answer's score. `pictures` are given by sample id; `regions` are outlined; `budget` is named in
    the legend.
    """
    strips = []
    for name, part in frame.groupby("id", sort=False):
        whole = as_rgb(pictures[name])
        size, picture = whole.size, shrunk(whole)
        outlines = [(corners, REGION) for corners in (regions or {}).get(name, ())]
        tiles = [Tile(picture, "picture", outlines=outlines)]
        for method, tokens in part.groupby("method", sort=False):
            kept, score = tokens["kept"].to_numpy(dtype=bool), float(tokens["score"].iloc[0])
            fates = np.where(kept, Fate.KEPT, Fate.GONE)
            image = lay_over(picture, veil(fates, tokens[_PLACE].to_numpy()))
            lines = [str(method), f"{kept.sum()} of {len(kept)} kept"]
            lines += [] if np.isnan(score) else [f"score {score:.2g}"]
            tiles.append(Tile(image, "\n".join(lines), outlines=outlines))
        strips.append(Strip(part["question"].iloc[0], size, tiles))
    edge: dict[str, Any] = {"edgecolor": theme.faint, "linewidth": 0.6}
    at = f", at {budget}" if budget else ""
    legend: list[Artist] = [
        Patch(facecolor="white", label=f"selected by the last stage{at}", **edge),
        Patch(facecolor="#121212", label="not selected by it", **edge),
    ]
    legend += [frame_entry(REGION, "region that the answer needs")] if regions else []
    return plot_sheet(strips, columns=6, ax=ax, theme=theme, legend=legend)
