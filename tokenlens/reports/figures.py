"""Figures of a report: files for a paper, and the same in the page, light and dark."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from tokenlens.analyses.drawing.style import DARK, LIGHT, Theme, outlined, render
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
        """Write a figure as `name` in every format, all with the layout of the first."""
        for suffix in self.formats:
            write_bytes(self.folder / f"{name}{suffix}", render(figure, suffix))
            figure.set_layout_engine("none")
            self.files.append(self.folder / f"{name}{suffix}")

    def plate(self, name: str, draw: Callable[[Theme], Figure], alt: str) -> Plate:
        """Write what `draw` makes, and make it ready for the page, light and dark."""
        printed = draw(self.theme)
        self.add(name, printed)
        light = outlined(printed if self.theme == LIGHT else draw(LIGHT))
        dark = outlined(draw(DARK))
        return Plate(data_uri("image/svg+xml", light), data_uri("image/svg+xml", dark), alt)
