"""Importance maps of every layer on the picture, all on one colour scale.

Maps scaled one by one cannot be compared, so the scale belongs to the whole set: every layer of
every picture shown together is painted by it. Where a few layers attend far more than the rest,
each layer's own scale shows the pattern of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageEnhance, ImageFilter

from tokenlens.errors import ProfileError
from tokenlens.registry import importance_unit
from tokenlens.samples.pictures import as_rgb
from tokenlens.wording.figures import percent

from .drawing.picture_sheet import ON_A_SHEET, REGION, Outline, Strip, Tile, frame_entry, plot_sheet
from .drawing.style import LIGHT, Theme, themed
from .drawing.token_raster import few_colours, lay_over, rasterise, shrunk

if TYPE_CHECKING:
    from tokenlens.probing.profile import ProfileRow

GROUND = "#3c3c3c"
"""What colour bars lie on: about as dark as the pictures under the maps."""
_STOPS = ("#7a3fa0", "#a8327d", "#d8454f", "#f98a2b", "#fde35a")
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
    """A set of maps' colour scale, even from an importance of 0 to `top`, which stands for more.

    `kind` is the name of the importance. Values below 0, which some have, are painted as 0.
    """

    top: float
    kind: str = "attention"

    @classmethod
    def shared(cls, importances: Iterable[np.ndarray], kind: str = "attention") -> Scale:
        """One scale for all: up to the value that one token in a thousand exceeds.

        `kind` is the name of the importance.

        >>> Scale.shared([np.array([[0.0, 0.5]]), np.array([[0.0, 0.5]])]).top
        0.5
        """
        values = [np.ravel(importance) for importance in importances]
        top = float(np.quantile(np.concatenate(values), 0.999)) if values else 0.0
        return cls(top if top > 0 else 1.0, kind)

    def paint(self, values: np.ndarray) -> np.ndarray:
        """Colours of importances: uint8 [..., 4], RGBA; NaN becomes transparent."""
        colours = GLOW(self.norm(np.nan_to_num(values)))
        colours[..., 3] = np.where(np.isnan(values), 0, colours[..., 3])
        painted: np.ndarray = np.round(colours * 255).astype(np.uint8)
        return painted

    def label(self, value: float) -> str:
        """A value as the colour bar writes it: attention in percent, others as they are."""
        return percent(value, digits=None) if self.kind == "attention" else f"{value:g}"

    @property
    def ticks(self) -> list[float]:
        """Round values for a colour bar, and the largest, which no other is near."""
        steps = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(0, self.top)
        return [*(float(step) for step in steps if 0 <= step <= 0.85 * self.top), self.top]

    @property
    def norm(self) -> Normalize:
        """Importance to the place on the colour scale, 0 to 1."""
        return Normalize(vmin=0, vmax=self.top or 1.0, clip=True)


def backdrop(picture: Image.Image) -> Image.Image:
    """The picture as maps are painted on it: dark and nearly grey, so that importance glows.

    Grain is smoothed away; it would take most of a file's space.
    """
    picture = picture.filter(ImageFilter.MedianFilter(3))
    return ImageEnhance.Brightness(ImageEnhance.Color(picture).enhance(0.3)).enhance(0.55)


def compute(rows: Iterable[ProfileRow]) -> pd.DataFrame:
    """Importance of every token at every layer of some samples.

    Columns: id, question, layer (from 1), token (from 0, in sequence order), x0, y0, x1, y1 (the
    part of the picture it covers, 0 to 1), importance (what the profile holds).

    Raises `ProfileError` for a sample with several pictures, whose tokens share no place.
    """
    parts = []
    for row in rows:
        if row.image_index is not None:
            raise ProfileError(f"sample {row.id!r} has several pictures; {ON_A_SHEET}")
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
    scale: Scale | Literal["layer"] | None = None,
    kind: str = "attention",
    chosen: Sequence[int] = (),
    columns: int = 7,
    layers: Sequence[int] | None = None,
    ax: Axes | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Plot each sample of `compute`'s frame: its picture, then one map per layer.

    `pictures` by sample id; `regions` are outlined. Without a `scale` the frame's own shared one is
    used; with "layer" every map goes to its own largest value, which its caption gives, so that a
    layer's pattern is seen whatever its level. `kind` is the name of the importance. `layers` are
    those shown, counted from 1; None for all. `columns` is the most tiles in a row. Raises
    `ProfileError` for another layer.
    """
    if scale == "layer":
        given, shared, label = None, Scale(1.0), "importance, of the layer's largest (max)"
    else:
        given = shared = scale or Scale.shared([frame["importance"].to_numpy()], kind)
        label = f"importance: {importance_unit(shared.kind)}"
    depth = int(frame["layer"].max())
    shown = range(1, depth + 1) if layers is None else list(layers)
    if not set(shown) <= set(range(1, depth + 1)):
        raise ProfileError(f"layers: got {shown}, expected layers from 1 to {depth}")
    strips = []
    for name, part in frame.groupby("id", sort=False):
        whole = as_rgb(pictures[name])
        picture = shrunk(whole)
        ground = backdrop(picture)
        outlines = [(corners, REGION) for corners in (regions or {}).get(name, ())]
        boxes = part[part["layer"] == 1][["x0", "y0", "x1", "y1"]].to_numpy()
        maps = rasterise(boxes, part["importance"].to_numpy().reshape(depth, -1))
        tiles = [Tile(picture, "picture", outlines=outlines)]
        for layer, one in ((layer, maps[layer - 1]) for layer in shown):
            own = given or Scale(float(np.nanmax(one, initial=0)), kind)
            caption = f"layer {layer}" if given else f"layer {layer}\nmax {_largest(own)}"
            painted = few_colours(lay_over(ground, own.paint(one)))
            tiles.append(Tile(painted, caption, layer in chosen, outlines))
        strips.append(Strip(part["question"].iloc[0], whole.size, tiles))
    foot = _FOOT if ax is None else 0.0
    legend = [frame_entry(REGION, "region that the answer needs")] if regions else []
    figure = plot_sheet(
        strips,
        columns=min(columns, len(shown) + 1),
        ax=ax,
        theme=theme,
        legend=legend,
        foot=foot,
    )
    _add_colour_bar(figure, ax, shared, label, theme)
    return figure


def _largest(scale: Scale) -> str:
    if scale.kind != "attention":
        return f"{scale.top:.3g}"
    return percent(scale.top, 2) if scale.top >= 1e-4 else f"< {percent(1e-4, 2)}"


def _add_colour_bar(
    figure: Figure, ax: Axes | None, scale: Scale, label: str, theme: Theme
) -> None:
    height = figure.get_figheight()
    with themed(theme):
        place = None
        if ax is None:
            place = figure.add_axes((0.1, (_FOOT - 0.2) / height, 0.8, 0.1 / height))
        bar = figure.colorbar(
            ScalarMappable(scale.norm, GLOW),
            cax=place,
            ax=ax,
            orientation="horizontal",
            ticks=scale.ticks,
            format=lambda value, _: scale.label(value),
            label=label,
        )
        bar.ax.set_facecolor(GROUND)
        bar.outline.set_visible(False)
