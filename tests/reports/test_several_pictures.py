"""The sheet of a sample with several pictures, in reports, figures and the explorer."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.support import synthetic
from tokenlens.analyses import importance_maps, kept_tokens
from tokenlens.analyses.drawing.token_raster import corners
from tokenlens.errors import ProfileError, ResultsError
from tokenlens.probing.profile import Profile, ProfileRow
from tokenlens.reports.explorer import explorer
from tokenlens.reports.figures import FigureFolder
from tokenlens.reports.inputs import read_inputs
from tokenlens.reports.page import build_report
from tokenlens.reports.profile_sections import map_section
from tokenlens.reports.sheet import Sheet

COLOURS = ("red", "lime", "blue")


def grid(rows: int, columns: int) -> np.ndarray:
    down, across = np.divmod(np.arange(rows * columns), columns)
    sides = [columns, rows, columns, rows]
    return np.stack([across, down, across + 1, down + 1], axis=1).astype(np.float32) / sides


def row_of(folder: Path, shapes: list[tuple[int, int]], **changes: Any) -> ProfileRow:
    """Pictures of so many (rows, columns) of tokens of 10 pixels; the last one has a box."""
    paths = []
    for index, (rows, columns) in enumerate(shapes):
        paths.append(str(folder / f"{index}-{rows}-{columns}.png"))
        colour = COLOURS[index % len(COLOURS)]
        Image.new("RGB", (10 * columns, 10 * rows), colour).save(paths[-1])
    counts = [rows * columns for rows, columns in shapes]
    total, sizes = sum(counts), [(10 * columns, 10 * rows) for rows, columns in shapes]
    several = {
        "more_images": tuple(paths[1:]),
        "more_sizes": tuple(sizes[1:]),
        "box_images": (len(shapes) - 1,),
        "image_index": np.repeat(np.arange(len(shapes)), counts),
    }
    region = np.zeros(total, dtype=np.bool_)
    region[total - counts[-1]] = True
    fields: dict[str, Any] = {
        "id": "s",
        "task": "where",
        "question": "where ?",
        "answers": ("here",),
        "image": paths[0],
        "size": sizes[0],
        "region_boxes": ((0.0, 0.0, 10.0, 10.0),),
        "polygons": (),
        "positions": np.arange(5, 5 + total),
        "boxes": np.concatenate([grid(*shape) for shape in shapes]),
        "grid": tuple((1, *shape) for shape in shapes),
        "importance": np.linspace(0, 0.01, 2 * total, dtype=np.float32).reshape(2, total),
        "per_head": None,
        "region": region,
        **(several if len(shapes) > 1 else {}),
    }
    return ProfileRow(**{**fields, **changes})


MIXED = [(6, 6), (12, 3), (2, 8)]


@pytest.mark.parametrize("shapes", [[(4, 4)] * 2, [(8, 5)] * 3, MIXED, [(8, 8)] * 5])
def test_every_token_lies_on_its_own_picture(tmp_path: Path, shapes: list[tuple[int, int]]) -> None:
    row = row_of(tmp_path, shapes)
    sheet = Sheet.of(row)
    picture, missing = sheet.picture(row)
    assert missing is None
    assert picture.size == sheet.size
    assert row.image_index is not None
    boxes = sheet.boxes(row)
    assert boxes.min() >= 0
    assert boxes.max() <= 1 + 1e-9
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 * sheet.size
    seen = [picture.getpixel((int(x), int(y))) for x, y in centres]
    pure = [Image.new("RGB", (1, 1), one).getpixel((0, 0)) for one in COLOURS]
    assert seen == [pure[index % 3] for index in row.image_index]
    (outline,) = sheet.outlines(row)
    first = boxes[row.region][0] * np.tile(sheet.size, 2)
    assert np.allclose([*outline[0], *outline[2]], first, atol=0.01)


def test_control_the_tokens_of_another_picture_do_not(tmp_path: Path) -> None:
    row = row_of(tmp_path, MIXED)
    assert row.image_index is not None
    turned = replace(row, image_index=row.image_index[::-1].copy())
    assert not np.allclose(Sheet.of(row).boxes(row), Sheet.of(row).boxes(turned))


def test_pictures_of_one_size_have_one_pixel_for_each_token(tmp_path: Path) -> None:
    row = row_of(tmp_path, [(12, 12)] * 3)
    places, size = corners(Sheet.of(row).boxes(row))
    assert size == (3 * 12 + 2, 12)
    assert ((places[:, 2:] - places[:, :2]) == 1).all()
    assert len({tuple(place) for place in places.tolist()}) == len(places)


def test_a_single_picture_is_its_own_sheet(tmp_path: Path) -> None:
    row = row_of(tmp_path, [(3, 4)])
    sheet = Sheet.of(row)
    assert sheet.size == row.size
    assert sheet.boxes(row).tobytes() == row.boxes.tobytes()
    assert sheet.picture(row)[0].tobytes() == Image.open(row.image).tobytes()
    assert list(sheet.outlines(row)[0]) == [(0, 0), (10, 0), (10, 10), (0, 10)]


def test_a_picture_that_is_gone_is_grey_and_named(tmp_path: Path) -> None:
    row = row_of(tmp_path, MIXED)
    Path(row.more_images[0]).unlink()
    picture, missing = Sheet.of(row).picture(row)
    assert "1-12-3.png" in str(missing)
    assert picture.getpixel((5, 5)) == (255, 0, 0)


def test_what_draws_on_one_picture_refuses_several(tmp_path: Path) -> None:
    row = row_of(tmp_path, MIXED)
    with pytest.raises(ProfileError, match="has several pictures"):
        importance_maps.compute([row])
    assert len(importance_maps.compute([Sheet.of(row).placed(row)])) == 2 * len(row.positions)
    with pytest.raises(ResultsError, match="has several pictures"):
        kept_tokens.compute([{"id": "s", "image_index": [0, 1]}], synthetic.schedule())


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, Path]:
    """A profile and results whose sample 1 has two pictures; the results end with text alone."""
    samples = [synthetic.sample(index, tmp_path / "pictures") for index in range(3)]
    first, second = samples[0], samples[1]
    count = len(second["positions"])
    pair = {
        **second,
        "positions": np.arange(5, 5 + count),
        "more_images": [first["image"]],
        "more_sizes": [first["size"]],
        "box_images": [0] * len(second["region_boxes"]),
        "image_index": np.repeat([0, 1], count // 2),
    }
    alone = {
        **second,
        "id": "t",
        "image": "",
        "size": (0, 0),
        "region_boxes": [],
        "positions": np.array([], np.int64),
        "boxes": np.array([], np.float32),
        "grid": [],
    }
    profile = synthetic.write_profile(tmp_path / "profile", [first, pair, samples[2]])
    results = synthetic.write_results(tmp_path / "results", [first, pair, samples[2], alone])
    return profile, results


def test_the_report_shows_every_picture_of_a_sample(
    stored: tuple[Path, Path], tmp_path: Path
) -> None:
    profile, results = stored
    inputs = read_inputs(profile, None, results)
    data = json.loads(str(explorer([inputs], 9).data))  # type: ignore[union-attr]
    shown = {one["id"]: one for one in data["samples"]}
    assert set(shown) == {"sample-0", "sample-1", "sample-2"}
    assert [shown[f"sample-{index}"]["pictures"] for index in range(3)] == [1, 2, 1]
    pair = shown["sample-1"]
    assert pair["width"] > 2 * synthetic.SIDE
    (place,) = pair["places"]
    edges = np.array(place["corners"])
    middle = place["raster"][0] / 2
    half = len(edges) // 2
    assert (edges[:half, 2] <= middle).all()
    assert (edges[half:, 0] >= middle).all()
    page = build_report(profile, None, results, tmp_path / "report", pictures=3).html
    text = page.read_text("utf-8")
    assert f'viewBox="0 0 {pair["width"]} {pair["height"]}"' in text


def test_the_columns_of_results_without_further_pictures_are_null(
    stored: tuple[Path, Path],
) -> None:
    rows = read_inputs(None, None, stored[1]).comparison.arms["unpruned"].rows  # type: ignore[union-attr]
    assert rows["image_index"].map(lambda one: one is None).to_list() == [True, False, True, True]
    assert isinstance(rows.iloc[1], pd.Series)


def test_sections_of_a_profile_use_the_sheet(stored: tuple[Path, Path], tmp_path: Path) -> None:
    section = map_section(Profile(stored[0]), [3], 3, FigureFolder(tmp_path / "figures"))
    assert section is not None
    widths = sorted(case.overlay.width for case in section.cases)
    assert widths[0] == widths[1] == synthetic.SIDE
    assert widths[2] > 2 * synthetic.SIDE
