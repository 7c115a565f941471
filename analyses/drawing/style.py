"""Style of all figures: one set of sizes, two themes, and colours safe for colour-blind readers.

Figures are made without pyplot, so no global state changes. Text is never read as mathematics,
because names of tasks and schedules come from the user.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .fonts import fitting_fonts

PAGE = 6.9
"""Inches: the width of both columns of a two-column paper."""


@dataclass(frozen=True)
class Theme:
    """Colours of a figure; `series` follows the palette of Okabe and Ito (2008)."""

    ink: str
    faint: str
    grid: str
    paper: str
    accent: str
    series: tuple[str, ...]
    sequential: str
    diverging: str


LIGHT = Theme(
    ink="#1c2430",
    faint="#667085",
    grid="#e3e7ee",
    paper="#ffffff",
    accent="#c2410c",
    series=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#4ba3d9", "#4d4d4d"),
    sequential="mako_r",
    diverging="vlag",
)
DARK = Theme(
    ink="#e8ecf3",
    faint="#98a2b3",
    grid="#2c3542",
    paper="#161b22",
    accent="#fb923c",
    series=("#56b4e9", "#f0803c", "#2cc295", "#e29bc4", "#f0c541", "#9ecff5", "#c9ced6"),
    sequential="mako",
    diverging="icefire",
)


@contextmanager
def themed(theme: Theme) -> Iterator[None]:
    """Context in which figures are drawn in this theme, at the sizes of a paper."""
    with mpl.rc_context(
        {
            **sns.axes_style("ticks"),
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 8,
            "axes.titlesize": 8.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 8,
            "xtick.labelsize": 7.5,
            "ytick.labelsize": 7.5,
            "legend.fontsize": 7.5,
            "legend.frameon": False,
            "axes.linewidth": 0.7,
            "xtick.major.width": 0.7,
            "ytick.major.width": 0.7,
            "xtick.major.size": 3,
            "ytick.major.size": 3,
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.6,
            "text.parse_math": False,
            "text.color": theme.ink,
            "axes.labelcolor": theme.ink,
            "axes.titlecolor": theme.ink,
            "axes.edgecolor": theme.faint,
            "xtick.color": theme.faint,
            "ytick.color": theme.faint,
            "xtick.labelcolor": theme.ink,
            "ytick.labelcolor": theme.ink,
            "grid.color": theme.grid,
            "axes.facecolor": theme.paper,
            "figure.facecolor": theme.paper,
            "savefig.facecolor": theme.paper,
        }
    ):
        yield


def render(figure: Figure, suffix: str) -> bytes:
    """A figure as a file: ".svg" (letters as outlines) or ".png" (300 dots per inch).

    The same figure gives the same bytes, with the same fonts installed: no date and no random
    identifiers are written.
    """
    with (
        mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "tokenlens"}),
        fitting_fonts(figure),
    ):
        buffer = io.BytesIO()
        figure.savefig(
            buffer,
            format=suffix.removeprefix("."),
            dpi=300,
            metadata={"Date": None} if suffix == ".svg" else {},
        )
    return buffer.getvalue()


def layer_ticks(
    axes: Axes,
    layers: Sequence[int],
    chosen: Sequence[int],
    theme: Theme,
    axis: str,
    *,
    most: int = 16,
    offset: float = 0,
) -> None:
    """Number `layers` along the `x` or `y` axis, the chosen ones bold and in the accent colour.

    Layer i stands at coordinate i + `offset`. Where there are more than `most`, every second
    (fourth, …) is numbered and chosen ones go first; none so near another that they would touch.
    """
    step = 1
    while len(layers) / step > most:
        step *= 2
    shown: list[int] = []
    for layer in [*chosen, *range(step, layers[-1] + 1, step)]:
        near = step if layer not in chosen else step / 3
        if layer in layers and all(abs(layer - other) >= near for other in shown):
            shown.append(layer)
    which = axes.xaxis if axis == "x" else axes.yaxis
    which.set_ticks([layer + offset for layer in shown], [str(layer) for layer in shown])
    for layer, label in zip(shown, which.get_ticklabels(), strict=True):
        if layer in chosen:
            label.set_color(theme.accent)
            label.set_fontweight("bold")


def arm_colours(arms: Sequence[str], theme: Theme) -> dict[str, str]:
    """A colour for each arm of a comparison; the first, the unpruned model, is grey."""
    others = {arm: theme.series[i % len(theme.series)] for i, arm in enumerate(arms[1:])}
    return {arms[0]: theme.faint, **others}


def shorten(text: str, limit: int = 28) -> str:
    """A label of one printable line, at most `limit` characters.

    >>> shorten("one" + chr(10) + "line"), shorten("abcdef", 4)
    ('one line', 'abc…')
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
