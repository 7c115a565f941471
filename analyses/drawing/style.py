"""Style of all figures: one set of sizes, two themes, and colours safe for colour-blind readers.

Figures are made without pyplot, so no global state changes. Text is never read as mathematics,
because names of tasks and schedules come from the user.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

PAGE = 6.9
"""Inches: the width of both columns of a two-column paper."""
SANS, SERIF = "sans-serif", "serif"
_FAMILIES = {SANS: "DejaVu Sans", SERIF: "DejaVu Serif"}
"""Both ship with Matplotlib."""
_LINES: Any = {
    "axes.axisbelow": True,
    "axes.grid": False,
    "axes.spines.left": True,
    "axes.spines.bottom": True,
    "axes.spines.right": True,
    "axes.spines.top": True,
    "grid.linestyle": "-",
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
    "xtick.bottom": True,
    "xtick.direction": "out",
    "xtick.top": False,
    "ytick.direction": "out",
    "ytick.left": True,
    "ytick.right": False,
}
"""Settings of Matplotlib that are the same in every theme, whatever a reader's own are."""
_WIDE, _NARROW = "mMwW@%—…", " .,:;!|'()[]/ijltfI"


@dataclass(frozen=True)
class Theme:
    """How a figure looks; `series` follows the palette of Okabe and Ito (2008).

    `width` is that of a whole figure, in inches, and `font` a family of Matplotlib's.
    """

    ink: str
    faint: str
    grid: str
    paper: str
    accent: str
    series: tuple[str, ...]
    sequential: str
    diverging: str
    width: float = PAGE
    font: str = SANS

    def across(self, inches: float, most: int) -> int:
        """How many panels of so many inches stand beside each other: from 1 to `most`.

        >>> LIGHT.across(2, most=3), LIGHT.across(9, most=3)
        (3, 1)
        """
        return max(1, min(most, int(self.width / inches)))


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
            **_LINES,
            "font.family": theme.font,
            "font.sans-serif": [_FAMILIES[SANS]],
            "font.serif": [_FAMILIES[SERIF]],
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
        near = step if layer not in chosen else 0.9 * len(layers) / most
        if layer in layers and all(abs(layer - other) >= near for other in shown):
            shown.append(layer)
    which = axes.xaxis if axis == "x" else axes.yaxis
    which.set_ticks([layer + offset for layer in shown], [str(layer) for layer in shown])
    for layer, label in zip(shown, which.get_ticklabels(), strict=True):
        if axis == "y":
            label.set_verticalalignment("center")
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


def fit(text: str, inches: float, size: float) -> str:
    """A label of one printable line that is at most so wide at this size in points.

    Letters are counted by their usual widths in bold; those of East Asian scripts are square.

    >>> fit("where is the circle", 1.0, 8), fit("圆圈在哪里", 0.4, 8)
    ('where is the…', '圆圈…')
    """
    line = shorten(text, len(text) + 1)
    room = inches * 72 / size
    widths = [_ems(letter) for letter in line]
    if sum(widths) <= room:
        return line
    ends = np.cumsum(widths) <= room - _ems("m")
    return line[: int(ends.sum())].rstrip() + "…"


def legend_columns(labels: Iterable[str], theme: Theme, size: float = 7.5) -> int:
    """How many columns a legend of a whole figure may have, from 1 to 4."""
    widest = max((sum(map(_ems, label)) for label in labels), default=1.0)
    return theme.across(0.5 + widest * size / 72, most=4)


def _ems(letter: str) -> float:
    """About how wide a letter is, of the font's size; rather too wide than too narrow."""
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.2
    if letter in _WIDE or letter.isupper():
        return 1.15 if letter in _WIDE else 0.85
    return 0.4 if letter in _NARROW else 0.7
