"""Files of a figure, all of them with the same fonts and the same layout."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image

from .fonts import fit_fonts, without_glyph_warnings
from .style import Theme

_DOTS = 300
"""Per inch, of PNG and of the pixels inside the other files."""
_RUNS = 3
"""The strategy of PNG's compression (zlib's Z_RLE): the quicker one, for files a little larger."""
_COLOUR = re.compile(rb"#[0-9a-f]{6}(?![0-9a-f])")


class Finished:
    """A figure whose texts have fonts with their letters, and whose parts have their places.

    Both are settled once: drawing a figure takes longest where it is laid out. Warns with
    `MissingScriptWarning`, a line for each script that no installed font has.
    """

    def __init__(self, figure: Figure) -> None:
        """Settle a figure, which is not laid out again afterwards."""
        with _canvas(figure) as self._canvas:
            self._figure = figure
            fit_fonts(figure)
            engine = figure.get_layout_engine()
            with without_glyph_warnings(), _dots(figure):
                if engine is not None:
                    engine.execute(figure)
            still: Any = {"figure.autolayout": False, "figure.constrained_layout.use": False}
            with mpl.rc_context(still):
                figure.set_layout_engine(None)

    @property
    def maps_values(self) -> bool:
        """Whether a part of the figure has the colours of a colour map, or of a picture."""
        return bool(self._figure.findobj(_maps_values))

    def file(self, suffix: str) -> bytes:
        """The figure as a file: ".svg", ".pdf" or ".png" (300 dots per inch).

        Letters stay letters that other programs can find and change: in SVG as text, in PDF with
        the font embedded (TrueType). The same figure gives the same bytes, with the same fonts
        installed: no date and no random identifiers are written.
        """
        return self._png() if suffix == ".png" else self._saved(suffix.removeprefix("."), "none")

    def outlined(self) -> bytes:
        """The figure as SVG with letters as outlines: alike whatever fonts a reader has."""
        return self._saved("svg", letters="path")

    def _png(self) -> bytes:
        with _canvas(self._figure, self._canvas), without_glyph_warnings(), _dots(self._figure):
            self._canvas.draw()
        picture = Image.fromarray(np.asarray(self._canvas.buffer_rgba()))
        paper = self._figure.patch
        if paper.get_visible() and to_rgba(paper.get_facecolor())[3] == 1:  # all is opaque then
            picture = picture.convert("RGB")
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", dpi=(_DOTS, _DOTS), compress_type=_RUNS)
        return buffer.getvalue()

    def _saved(self, kind: str, letters: str) -> bytes:
        dateless = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
        settings: Any = {"svg.fonttype": letters, "svg.hashsalt": "tokenlens", "pdf.fonttype": 42}
        buffer = io.BytesIO()
        with mpl.rc_context(settings), without_glyph_warnings():
            self._figure.savefig(buffer, format=kind, dpi=_DOTS, metadata=dateless.get(kind))
        return buffer.getvalue()


def render(figure: Figure, suffix: str) -> bytes:
    """A figure as one file; see `Finished.file`."""
    return Finished(figure).file(suffix)


def recoloured(svg: bytes, drawn: Theme, wanted: Theme) -> bytes:
    """A figure in SVG, with a theme's colours in place of those of the theme it is drawn in.

    That is what drawing it in the other theme gives, unless it maps values to colours.
    """
    pairs = zip(_colours(drawn), _colours(wanted), strict=True)
    colours = {old.encode(): new.encode() for old, new in pairs}
    return _COLOUR.sub(lambda found: colours.get(found[0], found[0]), svg)


def _colours(theme: Theme) -> list[str]:
    return [theme.ink, theme.faint, theme.grid, theme.paper, theme.accent, *theme.series]


def _maps_values(part: Artist) -> bool:
    return isinstance(part, ScalarMappable) and part.get_array() is not None


@contextmanager
def _canvas(figure: Figure, canvas: Any = None) -> Iterator[Any]:
    """Lay out and draw a figure on an Agg canvas, a new one without `canvas`; then on its own.

    A figure holds on to its canvas, and that to the pixels.
    """
    own = figure.canvas
    canvas = FigureCanvasAgg(figure) if canvas is None else canvas
    figure.set_canvas(canvas)
    try:
        yield canvas
    finally:
        figure.set_canvas(own)


@contextmanager
def _dots(figure: Figure) -> Iterator[None]:
    """The resolution at which a figure is laid out, whatever formats it goes to."""
    before = figure.dpi
    figure.dpi = _DOTS
    try:
        yield
    finally:
        figure.dpi = before
