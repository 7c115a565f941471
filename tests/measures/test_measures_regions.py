"""Region tokens against a fine grid of points, and at the edges of the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from tokenlens.measures.regions import _box_areas, _polygon_areas, region_tokens

W, H = 60, 40
coordinate = st.integers(-5, 65)


def grid(columns: int, rows: int) -> np.ndarray:
    xs, ys = np.arange(columns) / columns, np.arange(rows) / rows
    return np.array([[x, y, x + 1 / columns, y + 1 / rows] for y in ys for x in xs], np.float32)


def points_inside(cell: np.ndarray, steps: int = 60) -> np.ndarray:
    x0, y0, x1, y1 = cell
    offsets = (np.arange(steps) + 0.5) / steps
    xs, ys = np.meshgrid(x0 + offsets * (x1 - x0), y0 + offsets * (y1 - y0))
    return np.stack([xs.ravel(), ys.ravel()], axis=1)


@st.composite
def region_boxes(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    def one() -> tuple[int, int, int, int]:
        (x0, x1), (y0, y1) = (sorted((draw(coordinate), draw(coordinate))) for _ in range(2))
        return x0, y0, x1, y1

    return [one() for _ in range(draw(st.integers(1, 4)))]


@given(region_boxes())
@settings(max_examples=60)
def test_boxes_cover_the_area_of_their_union(boxes):
    cells = grid(3, 2).astype(np.float64) * [W, H, W, H]
    areas = _box_areas(cells, np.asarray(boxes, dtype=np.float64))
    for cell, area in zip(cells, areas, strict=True):
        points = points_inside(cell)
        inside = np.zeros(len(points), dtype=bool)
        for x0, y0, x1, y1 in boxes:
            inside |= ((points > [x0, y0]) & (points < [x1, y1])).all(axis=1)
        assert area == pytest.approx(inside.mean() * 400, abs=400 * 0.04)


@given(region_boxes())
@settings(max_examples=60)
def test_a_box_is_the_polygon_of_its_corners(boxes):
    x0, y0, x1, y1 = boxes[0]
    cells = grid(5, 4).astype(np.float64) * [W, H, W, H]
    corners = [(x0, y0), (x0, y1), (x1, y1), (x1, y0)]
    expected = _box_areas(cells, np.asarray(boxes[:1], dtype=np.float64))
    np.testing.assert_allclose(_polygon_areas(cells, corners), expected, atol=1e-9)
    np.testing.assert_allclose(_polygon_areas(cells, corners[::-1]), expected, atol=1e-9)


@given(
    st.lists(st.tuples(st.floats(0.2, 1.0), st.floats(0.05, 1.0)), min_size=3, max_size=9),
    st.tuples(st.integers(0, W), st.integers(0, H)),
)
@settings(max_examples=60)
def test_polygons_cover_what_they_contain(spokes, centre):
    """Star-shaped polygons, concave too, that stick out of the picture or not."""
    angles = 2 * np.pi * np.cumsum([gap for gap, _ in spokes]) / sum(gap for gap, _ in spokes)
    radii = 30 * np.array([radius for _, radius in spokes])
    polygon = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None] + centre
    cells = grid(3, 2).astype(np.float64) * [W, H, W, H]
    outline = Outline(np.vstack([polygon, polygon[:1]]), closed=True)
    for cell, area in zip(cells, _polygon_areas(cells, polygon.tolist()), strict=True):
        inside = outline.contains_points(points_inside(cell)).mean()
        assert area == pytest.approx(inside * 400, abs=400 * 0.03)
    everywhere = np.array([[-100.0, -100.0, 200.0, 200.0]])
    x, y = polygon.T
    shoelace = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    assert _polygon_areas(everywhere, polygon.tolist())[0] == pytest.approx(shoelace)


def test_half_is_enough_and_less_is_not():
    cells = grid(12, 12)
    exactly = region_tokens(cells, (168, 168), [(7, 0, 28, 14)])
    assert np.flatnonzero(exactly).tolist() == [0, 1]
    less = region_tokens(cells, (168, 168), [(7.01, 0, 28, 14)])
    assert np.flatnonzero(less).tolist() == [1]


def test_overlapping_boxes_count_once():
    cells = grid(2, 1)
    boxes = [(0, 0, 12, 40), (0, 0, 10, 40), (40, 0, 60, 40)]
    assert region_tokens(cells, (W, H), boxes).tolist() == [False, True]


def test_a_tiny_region_is_the_token_it_lies_in_most():
    cells = grid(4, 4)
    assert np.flatnonzero(region_tokens(cells, (W, H), [(14, 1, 17, 2)])).tolist() == [1]
    tie = region_tokens(cells, (W, H), [(14, 1, 16, 2)])
    assert np.flatnonzero(tie).tolist() == [0]
    dot = [[(31.0, 21.0), (32.0, 21.0), (31.0, 22.0)]]
    assert np.flatnonzero(region_tokens(cells, (W, H), (), dot)).tolist() == [10]


def test_no_region_has_no_tokens():
    cells = grid(4, 4)
    assert not region_tokens(cells, (W, H), ()).any()
    assert not region_tokens(cells, (W, H), [(70, 0, 80, 40)]).any()
    assert not region_tokens(cells, (W, H), [(5, 5, 5, 9)]).any()
    assert region_tokens(np.zeros((0, 4)), (W, H), [(0, 0, 60, 40)]).tolist() == []


def test_polygon_and_its_bounding_box_are_not_added_up():
    cells = grid(1, 1)
    diamond = [(12.0, 20.0), (30.0, 8.0), (48.0, 20.0), (30.0, 32.0)]
    box = (12.0, 8.0, 48.0, 32.0)
    two = np.concatenate([cells, [[0.2, 0.2, 0.5, 0.5]]]).astype(np.float32)
    assert region_tokens(two, (W, H), [box], [diamond]).tolist() == [False, True]
