"""Heat maps: which cell has which colour, and what is written into it."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tokenlens.analyses.drawing.heat_map import (
    colour_map,
    heat_map,
    lined_heat_map,
    write_values,
)

FRAME = pd.DataFrame([[0.0, 0.5, np.nan], [1.0, 0.25, 0.75]])
LOOK = {"limits": (0.0, 1.0), "colours": "mako"}


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("mako", "#0b0405", "#def5e5"),
        ("vlag", "#2369bd", "#a9373b"),
        ("icefire", "#bde7db", "#ffd4ac"),
    ],
)
def test_a_colour_map_goes_from_end_to_end_and_backwards(name, first, last):
    ends = [to_hex(colour_map(name)(place)) for place in (0.0, 1.0)]
    assert ends == [first, last]
    assert [to_hex(colour_map(f"{name}_r")(place)) for place in (1.0, 0.0)] == ends
    with pytest.raises(KeyError):
        colour_map("nobody")


def test_cells_lie_as_in_the_table_and_missing_ones_are_clear():
    axes = Figure().subplots()
    cells = heat_map(axes, FRAME, **LOOK)
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 3), (2, 0))
    assert len(axes.get_xticks()) == len(axes.get_yticks()) == 0
    painted = cells.to_rgba(cells.get_array())
    assert painted[0, 2, 3] == 0
    assert to_hex(painted[1, 0]) == to_hex(colour_map("mako")(1.0))


def test_values_are_written_into_their_cells_dark_on_bright():
    figure = Figure()
    axes = figure.subplots()
    mesh = lined_heat_map(axes, FRAME, gap=0.6, ground="#ffffff", **LOOK)
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 3), (2, 0))
    write_values(axes, mesh, FRAME, 6)
    written = {text.get_position(): text for text in axes.texts}
    assert {place: text.get_text() for place, text in written.items()} == {
        (0.5, 0.5): "0.00", (1.5, 0.5): "0.50", (0.5, 1.5): "1.00", (1.5, 1.5): "0.25",
        (2.5, 1.5): "0.75",
    }  # fmt: skip
    assert written[0.5, 0.5].get_color() == "w"
    assert written[0.5, 1.5].get_color() == "0.15"
