"""Do two layers rank the visual tokens alike? Spearman's correlation between every two layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokenlens.measures.correlation import rank_correlation

from .drawing.layer_grid import layer_frame, plot_grid
from .drawing.style import LIGHT, Theme

if TYPE_CHECKING:
    from tokenlens.probing.profile import Profile


def compute(profile: Profile) -> pd.DataFrame:
    """Mean over samples of the correlation between layers: float64 [layers, layers].

    Rows and columns are labelled with the layers' numbers. The profile is read as a stream; only
    the running sum is in memory.
    """
    total = np.zeros((profile.layers, profile.layers))
    for row in profile.rows():
        total += rank_correlation(row.importance)
    return layer_frame(total / max(1, len(profile)))


def plot(
    frame: pd.DataFrame, *, chosen: Sequence[int] = (), ax: Axes | None = None, theme: Theme = LIGHT
) -> Figure:
    """Heat map of `compute`'s matrix, the chosen layers marked.

    The diagonal, 1 in every model, is left out, so that the colours are spent on what differs: from
    the least to the most, or evenly about 0 where some layers disagree. One pair in fifty may lie
    beyond the ends, which the colour bar shows by its points.
    """
    others = frame.where(~np.eye(len(frame), dtype=bool))
    low, high = np.nanquantile(others, (0.01, 0.99)) if len(frame) > 1 else (0.0, 1.0)
    least, most = np.floor(20 * low) / 20, np.ceil(20 * high) / 20
    against = bool(least < 0)
    end = max(abs(least), abs(most))
    return plot_grid(
        others,
        limits=(-end, end) if against else (float(least), float(max(most, least + 0.1))),
        colours=theme.diverging if against else theme.sequential,
        label="mean Spearman rank correlation",
        axes_labels=("layer", "layer"),
        chosen=chosen,
        ax=ax,
        theme=theme,
    )
