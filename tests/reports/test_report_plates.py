"""The report's figures in files and in the page: laid out once, dark ones as if drawn dark."""

import base64
import gc
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.reports.test_reports_many import written
from tests.support import synthetic
from tests.support.measured import write_information, write_search
from tokenlens.analyses.drawing.finished import Finished, recoloured, render
from tokenlens.analyses.drawing.style import DARK, LIGHT
from tokenlens.reports.collecting import collecting_less
from tokenlens.reports.figures import FigureFolder
from tokenlens.reports.page import build_report


def alike(svg):
    """SVG with its identifiers, which are hashes of colours too, numbered as they come."""
    found = {}
    named = re.compile(r"\b(?:image|m|p|h|C[0-9a-f]+_[0-9a-f]+_)[0-9a-f]{10}\b")
    return named.sub(lambda one: found.setdefault(one[0], f"id{len(found)}"), svg.decode())


def embedded(uri):
    return base64.b64decode(uri.partition(",")[2])


@pytest.fixture
def plates(tmp_path, monkeypatch):
    """Every plate of two reports by its name, and what draws it."""
    found, real = {}, FigureFolder.plate

    def watched(self, name, draw, alt):
        plate = real(self, name, draw, alt)
        found[name] = (plate, draw)
        return plate

    monkeypatch.setattr(FigureFolder, "plate", watched)
    samples = [synthetic.sample(index, tmp_path / "pictures") for index in range(4)]
    build_report(
        synthetic.write_profile(tmp_path / "profile", samples),
        None,
        synthetic.write_results(tmp_path / "few", samples),
        tmp_path / "report",
        information=write_information(tmp_path / "information"),
        tuning=write_search(tmp_path / "search"),
        samples=0,
    )
    build_report(None, None, written(tmp_path), tmp_path / "many", pictures=0, samples=0)
    return found


def test_both_looks_of_a_plate_are_what_drawing_in_their_theme_gives(plates):
    assert len(plates) >= 12
    mapped = {name for name, (_, draw) in plates.items() if Finished(draw(LIGHT)).maps_values}
    assert mapped == {"rank-correlation", "shallow-deep-overlap", "layers-by-method"}
    for name, (plate, draw) in plates.items():
        for theme, uri in ((LIGHT, plate.light), (DARK, plate.dark)):
            assert alike(embedded(uri)) == alike(Finished(draw(theme)).outlined()), name
        assert alike(embedded(plate.light)) != alike(embedded(plate.dark))


def test_the_collector_is_as_it_was_afterwards():
    before = gc.get_threshold(), gc.get_freeze_count()
    with collecting_less():
        assert gc.get_threshold()[0] > before[0][0]
        assert gc.get_freeze_count() > before[1]
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


def test_what_a_caller_has_frozen_stays_frozen():
    gc.freeze()
    try:
        before = gc.get_freeze_count()
        with collecting_less():
            pass
        assert gc.get_freeze_count() == before > 0
    finally:
        gc.unfreeze()


def test_only_whole_colours_of_the_theme_are_exchanged():
    svg = f"fill: {LIGHT.ink}; stroke: #123456; {LIGHT.ink}ff url(#m{LIGHT.ink[1:]})".encode()
    wanted = f"fill: {DARK.ink}; stroke: #123456; {LIGHT.ink}ff url(#m{LIGHT.ink[1:]})"
    assert recoloured(svg, LIGHT, DARK).decode() == wanted


def test_a_figure_has_one_layout_in_every_format_and_is_whole_in_a_png(tmp_path):
    figure = Figure(figsize=(2, 1), layout="constrained")
    figure.subplots().set_title("a title")
    first = Finished(figure)
    picture = first.file(".png")
    again = Figure(figsize=(2, 1), layout="constrained")
    again.subplots().set_title("a title")
    assert first.file(".svg") == render(again, ".svg")
    (tmp_path / "one.png").write_bytes(picture)
    with Image.open(tmp_path / "one.png") as one:
        assert (one.mode, one.size) == ("RGB", (600, 300))
        assert one.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_png_stays_transparent_where_the_figure_is(tmp_path):
    figure = Figure(figsize=(1, 1), facecolor="none")
    (tmp_path / "one.png").write_bytes(render(figure, ".png"))
    with Image.open(tmp_path / "one.png") as one:
        assert one.mode == "RGBA"
        assert not np.asarray(one)[..., 3].any()
