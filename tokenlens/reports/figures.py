"""Figures of a report: files for a paper, and the same in the page, light and dark."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from tokenlens.analyses.drawing.style import DARK, LIGHT, Theme, render
from tokenlens.reports.overlays import data_uri
from tokenlens.storage.files import write_bytes


@dataclass(frozen=True)
class Plate:
    """A figure in the page: SVG data URIs, light and dark, and a description in words."""

    light: str
    dark: str
    alt: str


class FigureFolder:
    """Writes figures as SVG and PNG into a folder, each file whole or not at all.

    Attributes:
        folder: folder of the files.
        files: paths of the files written so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []

    def add(self, name: str, figure: Figure) -> None:
        """Write a figure as `name`.svg and `name`.png."""
        self._write(name, figure)

    def plate(self, name: str, draw: Callable[[Theme], Figure], alt: str) -> Plate:
        """Write the figure of `draw` in the light theme; return it for the page in both themes."""
        light, dark = self._write(name, draw(LIGHT)), render(draw(DARK), ".svg")
        return Plate(data_uri("image/svg+xml", light), data_uri("image/svg+xml", dark), alt)

    def _write(self, name: str, figure: Figure) -> bytes:
        for suffix in (".png", ".svg"):
            content = render(figure, suffix)
            write_bytes(self.folder / f"{name}{suffix}", content)
            self.files.append(self.folder / f"{name}{suffix}")
        return content
