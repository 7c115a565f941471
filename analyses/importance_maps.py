"""Importance maps of every layer on the picture, all on one colour scale.

Maps scaled one by one cannot be compared, so the scale belongs to the whole set: every layer of
every picture shown together is painted by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageEnhance

from tokenlens.wording.figures import percent

from .drawing.picture_sheet import REGION, Outline, Strip, Tile, plot_sheet
from .drawing.style import LIGHT, Theme, themed
from .drawing.token_raster import lay_over, rasterise, shrunk

if TYPE_CHECKING:
    from tokenlens.probing.profile import ProfileRow

GROUND = "#3c3c3c"
"""Background of colour bars: about as dark as the pictures under the maps."""
_STOPS = ("#3b0f52", "#8c2369", "#d8454f", "#f98a2b", "#fde35a")
_FOOT = 0.62
"""Inches for the colour bar."""
GLOW = LinearSegmentedColormap.from_list(
    "glow",
    [
        (*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)), alpha)
        for colour, alpha in zip(_STOPS, (0.0, 0.5, 0.72, 0.84, 0.92), strict=True)
    ],
)
"""Colours from transparent to opaque yellow: lightness and opacity both grow with importance."""


@dataclass(frozen=True)
class Scale:
    """A set of maps' colour scale, from an importance of 0 to `top`; more is painted as `top`.

    Colours follow the square root, so that the many small values can be told apart too.
    """

    top: float

    @classmethod
    def shared(cls, importances: Iterable[np.ndarray]) -> Scale:
        """One scale for all: up to the value that one token in a thousand exceeds.

        >>> Scale.shared([np.array([[0.0, 0.5]]), np.array([[0.0, 0.5]])]).top
        0.5
        """
        values = [np.ravel(importance) for importance in importances]
        top = float(np.quantile(np.concatenate(values), 0.999)) if values else 0.0
        return cls(top if top > 0 else 1.0)

    def paint(self, values: np.ndarray) -> np.ndarray:
        """Colours of importances: uint8 [..., 4], RGBA; NaN becomes transparent."""
        colours = GLOW(self.norm(np.nan_to_num(values)))
        colours[..., 3] = np.where(np.isnan(values), 0, colours[..., 3])
        painted: np.ndarray = np.round(colours * 255).astype(np.uint8)
        return painted

    @property
    def ticks(self) -> list[float]:
        """Round values for a colour bar, few enough to be legible at its upper end."""
        steps = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(0, self.top)
        return [float(step) for step in steps if 0 <= step <= self.top]

    @property
    def norm(self) -> PowerNorm:
        """Importance to the place on the colour scale, 0 to 1."""
        return PowerNorm(0.5, vmin=0, vmax=self.top, clip=True)


def backdrop(picture: Image.Image) -> Image.Image:
    """The picture as a background of maps: dark and nearly grey, so that importance stands out."""
    return ImageEnhance.Brightness(ImageEnhance.Color(picture).enhance(0.3)).enhance(0.55)


def compute(rows: Iterable[ProfileRow]) -> pd.DataFrame:
    """Importance of every token at every layer of some samples.

    Columns: id, question, layer (from 1), token (from 0, in sequence order), x0, y0, x1, y1 (the
    part of the picture it covers, 0 to 1), importance (its share of the last prompt token's
    attention).
    """
    parts = []
    for row in rows:
        layers, tokens = row.importance.shape
        corners = np.tile(row.boxes, (layers, 1))
        part = pd.DataFrame(corners, columns=["x0", "y0", "x1", "y1"])
        part.insert(0, "id", row.id)
        part.insert(1, "question", row.question)
        part.insert(2, "layer", np.repeat(np.arange(1, layers + 1), tokens))
        part.insert(3, "token", np.tile(np.arange(tokens), layers))
        part["importance"] = row.importance.ravel()
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def plot(
    frame: pd.DataFrame,
    pictures: Mapping[str, Image.Image],
    *,
    regions: Mapping[str, Sequence[Outline]] | None = None,
    scale: Scale | None = None,
    chosen: Sequence[int] = (),
    ax: Axes | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Plot each sample of `compute`'s frame: its picture, then one map per layer.

    `pictures` by sample id; `regions` are outlined. Without a `scale` the frame's own shared one is
    used.
    """
    scale = scale or Scale.shared([frame["importance"].to_numpy()])
    layers = int(frame["layer"].max())
    strips = []
    for name, part in frame.groupby("id", sort=False):
        picture = shrunk(pictures[name])
        ground = backdrop(picture)
        outlines = [(corners, REGION) for corners in (regions or {}).get(name, ())]
        boxes = part[part["layer"] == 1][["x0", "y0", "x1", "y1"]].to_numpy()
        maps = rasterise(boxes, part["importance"].to_numpy().reshape(layers, -1))
        painted = [
            Tile(lay_over(ground, scale.paint(one)), f"layer {layer}", layer in chosen, outlines)
            for layer, one in enumerate(maps, start=1)
        ]
        tiles = [Tile(picture, "picture", outlines=outlines), *painted]
        strips.append(Strip(part["question"].iloc[0], pictures[name].size, tiles))
    foot = _FOOT if ax is None else 0.0
    figure = plot_sheet(strips, columns=min(7, layers + 1), ax=ax, theme=theme, foot=foot)
    _add_colour_bar(figure, ax, scale, theme)
    return figure


def _add_colour_bar(figure: Figure, ax: Axes | None, scale: Scale, theme: Theme) -> None:
    height = figure.get_figheight()
    with themed(theme):
        place = None
        if ax is None:
            place = figure.add_axes((0.15, (_FOOT - 0.2) / height, 0.7, 0.1 / height))
        bar = figure.colorbar(
            ScalarMappable(scale.norm, GLOW),
            cax=place,
            ax=ax,
            orientation="horizontal",
            ticks=scale.ticks,
            format=lambda share, _: percent(share, digits=None),
            label="importance: share of the last prompt token's attention",
        )
        bar.ax.set_facecolor(GROUND)
        bar.outline.set_visible(False)
