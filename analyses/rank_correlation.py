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
    """Heat map of `compute`'s matrix on the fixed scale -1 to 1, the chosen layers marked."""
    return plot_grid(
        frame,
        limits=(-1.0, 1.0),
        colours=theme.diverging,
        label="mean Spearman rank correlation",
        axes_labels=("layer", "layer"),
        chosen=chosen,
        ax=ax,
        theme=theme,
    )
