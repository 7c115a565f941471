"""Which layer and head finds the region? Region overlap of every single head.

    tokenlens profile --per-head

A head that finds the region well is lost in the mean over heads. `strongest` picks heads, and
`with_heads` measures what scoring with them alone would find: pick and measure on different
samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tokenlens.measures.intervals import bootstrap_interval
from tokenlens.measures.overlap import region_scores
from tokenlens.wording.figures import percent

from .drawing.canvas import single
from .drawing.heat_map import heat_map
from .drawing.style import LIGHT, Theme, layer_ticks, themed

if TYPE_CHECKING:
    from tokenlens.probing.profile import Profile

TOP = 0.2


def compute(profile: Profile, *, metric: str = "recall", top: float = TOP) -> pd.DataFrame:
    """Mean region overlap of every head: float64 [heads, layers], both counted from 1.

    `metric` and `top` are those of `tokenlens.measures.overlap.region_scores`. Samples without a
    region do not count; the frame is empty where no sample has one, or the profile has no heads.
    """
    total, samples = np.zeros((profile.heads, profile.layers)), 0
    for row in profile.rows():
        if row.per_head is not None and row.region.any():
            heads = row.per_head.transpose(1, 0, 2)
            total += [region_scores(head, row.region, metric, top) for head in heads]
            samples += 1
    if not samples:
        return pd.DataFrame()
    return pd.DataFrame(
        total / samples,
        index=pd.RangeIndex(1, profile.heads + 1, name="head"),
        columns=pd.RangeIndex(1, profile.layers + 1, name="layer"),
    )


def strongest(frame: pd.DataFrame, share: float = 0.5) -> dict[int, list[int]]:
    """The heads of each layer that find the region best, by layer; all counted from 1.

    `share` of the heads, rounded half up, at least one; ties go to the lower number.

    >>> strongest(pd.DataFrame({1: [0.1, 0.4], 2: [0.3, 0.3]}, index=[1, 2]))
    {1: [2], 2: [1]}
    """
    count = max(1, int(share * len(frame) + 0.5))
    best = {
        int(layer): frame[layer].sort_values(ascending=False, kind="stable").index[:count]
        for layer in frame.columns
    }
    return {layer: sorted(map(int, heads)) for layer, heads in best.items()}


def with_heads(
    profile: Profile,
    heads: Mapping[int, Sequence[int]],
    *,
    metric: str = "recall",
    top: float = TOP,
) -> pd.DataFrame:
    """Region overlap where a layer's importance is the mean over some of its heads.

    Columns: layer, chosen (of `heads` alone), every (mean over all heads), difference (mean of
    paired differences), low and high (ends of its 95 % bootstrap interval), samples.
    """
    found = []
    for row in profile.rows():
        if row.per_head is not None and row.region.any():
            some = [
                row.per_head[layer - 1, np.array(chosen) - 1].mean(axis=0)
                for layer, chosen in heads.items()
            ]
            every = row.importance[np.array(list(heads)) - 1]
            found.append(
                [region_scores(part, row.region, metric, top) for part in (np.stack(some), every)]
            )
    scores = np.array(found)
    difference, low, high = bootstrap_interval(scores[:, 0] - scores[:, 1])
    chosen, mean = scores.mean(axis=0)
    columns = {"chosen": chosen, "every": mean, "difference": difference, "low": low, "high": high}
    return pd.DataFrame({"layer": list(heads), **columns, "samples": len(scores)})


def plot(
    frame: pd.DataFrame,
    *,
    top: float = TOP,
    chosen: Sequence[int] = (),
    ax: Axes | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Heat map of heads (rows) by layers, of `compute`'s recall; the best head is framed."""
    head, layer = divmod(int(np.argmax(frame.to_numpy())), frame.shape[1])
    with themed(theme):
        cell = (theme.width - 1.1) / frame.shape[1]
        height = 0.95 + min(4.0, max(0.75, len(frame) * min(cell, 0.25)))
        figure, axes = single(ax, (theme.width, height))
        cells = heat_map(axes, frame, limits=(0, 1), colours=theme.sequential)
        look: dict[str, Any] = {
            "fill": False,
            "edgecolor": theme.accent,
            "linewidth": 1.2,
            "clip_on": False,
        }
        axes.add_patch(Rectangle((layer, head), 1, 1, **look))
        label = f"region tokens among\nthe top {percent(top)}"
        bar = figure.colorbar(cells, ax=axes, label=label, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.axhline(top, color=theme.accent, linewidth=1.5)
        bar.set_ticks([0, top, 1], labels=["0", "chance", "1"])
        share = percent(float(frame.to_numpy()[head, layer]))
        best = f"best: layer {layer + 1}, head {head + 1}, {share}"
        axes.set(xlabel=f"layer ({best})", ylabel="head")
        most = int((theme.width - 1.1) / 0.22)
        layer_ticks(axes, list(frame.columns), chosen, theme, "x", most=most, offset=-0.5)
        most = max(1, int((height - 0.95) / 0.15))
        layer_ticks(axes, list(frame.index), (), theme, "y", most=most, offset=-0.5)
        axes.tick_params(length=0, rotation=0)
    return figure
