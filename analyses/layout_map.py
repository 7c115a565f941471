"""Positions of visual tokens on their picture: table, figure and notebook view of a `Layout`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from .drawing.canvas import single
from .drawing.notebook import image_tag
from .drawing.picture_sheet import box_outline
from .drawing.style import LIGHT, PAGE, Theme, themed
from .drawing.token_raster import displayed, square_boxes

if TYPE_CHECKING:
    from tokenlens.models.layout import Layout


def compute(layout: Layout) -> pd.DataFrame:
    """One row per visual token, with the columns of `Layout.to_dataframe`."""
    frame = pd.DataFrame(layout.boxes.numpy(), columns=["x0", "y0", "x1", "y1"])
    frame.insert(0, "visual", np.arange(len(frame)))
    frame.insert(1, "position", layout.positions.numpy())
    frame.insert(2, "image", layout.image_index.numpy())
    frame.insert(3, "frame", layout.frame.numpy())
    return frame


def plot(
    layout: Layout,
    *,
    image: int = 0,
    picture: Any = None,
    ax: Axes | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """The outlines of the tokens of one picture, see `Layout.plot`."""
    own = layout.image_index.numpy() == image
    boxes = layout.boxes.numpy()[own] if layout.placed else square_boxes(len(layout.positions))
    with themed(theme):
        figure, axes = single(ax, (PAGE / 2, PAGE / 2))
        if picture is not None:
            shown = displayed(picture)
            axes.imshow(shown, extent=(0, 1, 1, 0))
            axes.set_aspect(float(np.divide(*shown.shape[:2])))
        outlines = [np.array(box_outline(*box)) for box in boxes.tolist()]
        axes.add_collection(
            PolyCollection(outlines, facecolor="none", edgecolor=theme.accent, linewidth=0.6)
        )
        axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
        axes.set_title(f"{len(boxes)} visual tokens")
    return figure


def to_html(layout: Layout) -> str:
    """HTML of a layout for a notebook: its grids and the first picture's tokens."""
    grids = ", ".join(" x ".join(map(str, grid)) for grid in layout.grid)
    return (
        f"<p>{len(layout.positions)} visual tokens; frames x rows x columns: {grids}.</p>"
        + image_tag(plot(layout), "outlines of the visual tokens of the first picture")
    )
