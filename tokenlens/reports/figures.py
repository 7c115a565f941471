"""Figures of a report: files for a paper, and the same in the page, light and dark."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from tokenlens.analyses.drawing.finished import Finished, recoloured
from tokenlens.analyses.drawing.style import DARK, LIGHT, Theme
from tokenlens.reports.overlays import data_uri
from tokenlens.storage.files import write_bytes

FORMATS = (".png", ".svg")
"""What is written where nothing else is asked for."""


@dataclass(frozen=True)
class Plate:
    """A figure in the page: SVG data URIs, light and dark, and a description in words."""

    light: str
    dark: str
    alt: str


class FigureFolder:
    """Writes figures into a folder, each file whole or not at all.

    Attributes:
        folder: where they go.
        formats: of the files, by their suffixes.
        theme: how figures look in the files.
        files: what was written.
    """

    def __init__(
        self, folder: Path, formats: Sequence[str] = FORMATS, theme: Theme = LIGHT
    ) -> None:
        self.folder = folder
        self.formats = tuple(formats)
        self.theme = theme
        self.files: list[Path] = []

    def add(self, name: str, figure: Figure) -> None:
        """Write a figure as `name` in every format."""
        self._write(name, Finished(figure))

    def plate(self, name: str, draw: Callable[[Theme], Figure], alt: str) -> Plate:
        """Write what `draw` makes, and make it ready for the page, light and dark."""
        printed = Finished(draw(self.theme))
        self._write(name, printed)
        light = printed if self.theme == LIGHT else Finished(draw(LIGHT))
        page = light.outlined()
        dark = (
            Finished(draw(DARK)).outlined() if light.maps_values else recoloured(page, LIGHT, DARK)
        )
        return Plate(data_uri("image/svg+xml", page), data_uri("image/svg+xml", dark), alt)

    def _write(self, name: str, figure: Finished) -> None:
        for suffix in self.formats:
            file = self.folder / f"{name}{suffix}"
            write_bytes(file, figure.file(suffix))
            self.files.append(file)
