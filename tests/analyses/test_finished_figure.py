import io

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from tokenlens.analyses.drawing.finished import Finished, render


def drawn(**options):
    figure = Figure(layout="constrained", **options)
    figure.subplots().plot([0, 1], [1, 0], label="a line")
    return figure


def test_a_figure_keeps_its_own_canvas():
    figure = drawn()
    own = FigureCanvasAgg(figure)
    finished = Finished(figure)
    for suffix in (".png", ".svg", ".png"):
        finished.file(suffix)
        assert figure.canvas is own


def test_a_file_is_the_same_whatever_was_written_before():
    finished = Finished(drawn())
    first = finished.file(".png")
    finished.file(".svg")
    assert finished.file(".png") == first == render(drawn(), ".png")


@pytest.mark.parametrize(
    ("options", "mode"),
    [({}, "RGB"), ({"facecolor": "none"}, "RGBA"), ({"frameon": False}, "RGBA")],
    ids=["paper", "transparent paper", "no paper"],
)
def test_only_what_is_opaque_loses_its_alpha(options, mode):
    picture = Image.open(io.BytesIO(render(drawn(**options), ".png")))
    assert picture.mode == mode
    least, _ = picture.convert("RGBA").getchannel("A").getextrema()
    assert (least == 255) == (mode == "RGB")
