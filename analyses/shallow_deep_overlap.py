"""Does a shallow layer discard tokens that are important at a deep layer?

For layers i and j: the share of layer j's most important tokens that lie among layer i's least
important ones (SwiftVLM, arXiv 2602.03134, Fig. 2, there for one sample; here the mean over
samples).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokenlens.measures.overlap import shallow_deep_overlap
from tokenlens.wording.figures import percent

from .drawing.layer_grid import layer_frame, plot_grid
from .drawing.style import LIGHT, Theme

if TYPE_CHECKING:
    from tokenlens.probing.profile import Profile

BOTTOM, TOP = 0.5, 0.1
SHALLOW, DEEP = (1, 9), (10, 20)
"""Layers that the paper compares, out of LAYERS."""
LAYERS = 32


def compute(profile: Profile, *, bottom: float = BOTTOM, top: float = TOP) -> pd.DataFrame:
    """Mean over samples: float64 [layers, layers]; row i discards, column j needs."""
    total = np.zeros((profile.layers, profile.layers))
    for row in profile.rows():
        total += shallow_deep_overlap(row.importance, bottom=bottom, top=top)
    return layer_frame(total / max(1, len(profile)))


def summary(frame: pd.DataFrame) -> tuple[range, range, float]:
    """The paper's figure in one number: shallow layers, deep layers, and the mean over their pairs.

    The layers are the paper's 1 to 9 and 10 to 20 of 32, in proportion to the model's depth.

    >>> shallow, deep, share = summary(layer_frame(np.full((24, 24), 0.4)))
    >>> (shallow[0], shallow[-1]), (deep[0], deep[-1]), round(share, 3)
    ((1, 7), (8, 15), 0.4)
    """
    scale = len(frame) / LAYERS
    middle, last = max(1, round(SHALLOW[1] * scale)), max(2, round(DEEP[1] * scale))
    shallow, deep = range(1, middle + 1), range(middle + 1, last + 1)
    return shallow, deep, float(frame.loc[list(shallow), list(deep)].to_numpy().mean())


def plot(
    frame: pd.DataFrame,
    *,
    bottom: float = BOTTOM,
    top: float = TOP,
    chosen: Sequence[int] = (),
    ax: Axes | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Heat map of shallower layers (rows) against deeper ones (columns), on the scale 0 to 1.

    The colour bar marks what two layers without anything in common would reach.
    """
    deeper = np.triu(np.ones(frame.shape, dtype=bool), k=1)
    return plot_grid(
        frame.where(deeper).iloc[:-1, 1:],
        limits=(0.0, 1.0),
        chance=bottom,
        colours=theme.sequential,
        label=f"share of the top {percent(top)}\nfound in the bottom {percent(bottom)}",
        axes_labels=(
            f"deep layer (its top {percent(top)})",
            f"shallow layer (its bottom {percent(bottom)})",
        ),
        chosen=chosen,
        ax=ax,
        theme=theme,
    )
