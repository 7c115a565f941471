"""Where the texts of a figure are, so that a test can say which ones run into each other."""

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

_TOUCHING = 1.0
"""Points by which boxes may overlap: they include the space above and below letters."""


def boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is drawn, with its bounding box in points."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(72)
    canvas.draw()
    renderer = canvas.get_renderer()
    drawn: list[Text] = []
    real = renderer.draw_text

    def note(gc, x, y, s, prop, angle, ismath=False, mtext=None):
        if mtext is not None and mtext not in drawn:
            drawn.append(mtext)
        real(gc, x, y, s, prop, angle, ismath, mtext)

    renderer.draw_text = note
    figure.draw(renderer)
    return [
        (text.get_text(), text.get_window_extent(renderer)) for text in drawn if text.get_text()
    ]


def faults(figure: Figure) -> list[str]:
    """Pairs of texts that overlap, and texts that run over the figure's edge."""
    width, height = figure.get_size_inches() * 72
    found, texts = [], boxes(figure)
    for words, box in texts:
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1:
            found.append(f"{words!r} runs over the edge")
    for (one, a), (other, b) in combinations(texts, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        if across > _TOUCHING and down > _TOUCHING:
            found.append(f"{one!r} and {other!r} overlap")
    return found
