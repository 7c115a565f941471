"""Where do layers pile up attention? The share on each sample's top 1 % of visual tokens.

Attention sinks are tokens that draw much attention whatever the picture shows. A layer has them
where this share is large and the tokens are the same from picture to picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokenlens.measures.arrays import top_count, top_ranks
from tokenlens.measures.intervals import bootstrap_interval
from tokenlens.wording.figures import percent

from .drawing.canvas import single
from .drawing.style import LIGHT, Theme, layer_ticks, themed

if TYPE_CHECKING:
    from tokenlens.probing.profile import Profile

TOP = 0.01


def compute(profile: Profile, *, top: float = TOP) -> pd.DataFrame:
    """How much importance lies on each layer's top tokens, and how often they are the same ones.

    Columns: layer (from 1); share (of the importance of all visual tokens, mean over samples, 0 to
    1) with its 95 % bootstrap interval, low and high; stability (mean share of top tokens that two
    samples with different pictures and the same grid have in common, by place in the grid; NaN
    without such a pair; each picture counts with its first sample); chance (the share of tokens
    that are in the top, which both would be if nothing stood out); samples; pictures.
    """
    shares, chances = [], []
    tops: dict[object, dict[object, np.ndarray]] = defaultdict(dict)
    for row in profile.rows():
        best = top_ranks(row.importance.astype(np.float64)) < top_count(
            top, row.importance.shape[1]
        )
        total = row.importance.sum(axis=1, dtype=np.float64)
        inside = np.where(best, row.importance, 0).sum(axis=1, dtype=np.float64)
        shares.append(np.divide(inside, total, out=np.zeros_like(total), where=total > 0))
        chances.append(best[0].mean())
        picture = (row.image or row.id, row.more_images)
        tops[row.grid].setdefault(picture, best)
    mean, low, high = bootstrap_interval(np.stack(shares))
    columns = {"share": mean, "low": low, "high": high, "stability": _stability(tops.values())}
    return pd.DataFrame(
        {
            "layer": np.arange(1, profile.layers + 1),
            **columns,
            "chance": float(np.mean(chances)),
            "samples": len(shares),
            "pictures": sum(map(len, tops.values())),
        }
    )


def _stability(groups: Iterable[dict[object, np.ndarray]]) -> np.ndarray:
    """Mean overlap of the top tokens of two pictures of one group: float64 [layers]."""
    common, pairs = np.zeros(1), 0
    for pictures in groups:
        chosen = np.stack(list(pictures.values()))
        count = len(chosen)
        often = chosen.sum(axis=0)
        common = common + (often * (often - 1)).sum(axis=1) / chosen[0, 0].sum()
        pairs += count * (count - 1)
    return common / pairs if pairs else common * np.nan


def plot(
    frame: pd.DataFrame,
    *,
    top: float = TOP,
    chosen: Sequence[int] = (),
    ax: Axes | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Both curves by layer, the share's interval shaded, chance dashed, chosen layers marked."""
    samples, pictures = int(frame["samples"].iloc[0]), int(frame["pictures"].iloc[0])
    with themed(theme):
        figure, axes = single(ax, (theme.width, 2.5))
        for layer in chosen:
            axes.axvline(layer, color=theme.accent, linewidth=0.9, alpha=0.7, zorder=1)
        colour, other = theme.series[0], theme.series[1]
        layers = frame["layer"]
        axes.fill_between(
            layers, 100 * frame["low"], 100 * frame["high"], color=colour, alpha=0.22, linewidth=0
        )
        label = f"share of importance ({samples} samples)"
        axes.plot(layers, 100 * frame["share"], "o-", color=colour, markersize=3, label=label)
        label = f"the same in two pictures ({pictures})"
        axes.plot(layers, 100 * frame["stability"], "s--", color=other, markersize=3, label=label)
        dashes = (0, (4, 3))
        level = 100 * frame["chance"].iloc[0]
        axes.axhline(level, color=theme.faint, linewidth=0.9, linestyle=dashes, label="chance")
        axes.set_ylim(0, 100)
        axes.set_xlabel("layer")
        axes.set_ylabel(f"top {percent(top)} of visual tokens, %")
        layer_ticks(axes, layers.tolist(), chosen, theme, "x", most=theme.across(0.4, 16))
        axes.grid(axis="y")
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper left", ncols=theme.across(2.2, 3), borderpad=0)
    return figure
