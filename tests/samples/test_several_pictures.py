import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tokenlens.errors import SampleError
from tokenlens.samples.manifest import read_manifest

PAIR = {"id": "s", "images": ["a.png", "b.png"], "question": "what ?"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    Image.new("RGB", (20, 60)).save(tmp_path / "b.png")
    return tmp_path


def read(folder: Path, row: dict[str, Any]) -> Any:
    (folder / "m.jsonl").write_text(json.dumps(row))
    return read_manifest(folder / "m.jsonl")[0]


@pytest.mark.parametrize(
    "boxes", [[[1, 0, 0, 5, 50], [0, 1, 1, 9, 9]], [[[1, 1, 9, 9]], [[0, 0, 5, 50]]]]
)
def test_boxes_go_to_their_pictures(folder: Path, boxes: list[Any]) -> None:
    sample = read(folder, {**PAIR, "boxes": boxes})
    assert (sample.image.name, sample.more_images[0].name) == ("a.png", "b.png")
    assert sample.boxes_of(0) == ((1, 1, 9, 9),)
    assert sample.boxes_of(1) == ((0, 0, 5, 50),)
    assert [one.size for one in sample.open_images()] == [(40, 30), (20, 60)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"images": []}, "images: expected a list of at least one"),
        ({"images": "a.png"}, "images: expected a list"),
        ({"images": ["a.png", 3]}, r"images\[1\]: got 3, expected the path"),
        ({"image": "a.png"}, "image, images: given together, expected one of them"),
        ({"boxes": [[2, 0, 0, 5, 5]]}, r"boxes\[0\]: the first number names no picture"),
        ({"boxes": [[-1, 0, 0, 5, 5]]}, "names no picture"),
        ({"boxes": [[True, 0, 0, 5, 5]]}, "names no picture"),
        ({"boxes": [[0.5, 0, 0, 5, 5]]}, "names no picture"),
        ({"boxes": [[0, 0, 5, 5]]}, r"boxes\[0\]: expected \[index"),
        ({"boxes": [[[0, 0, 5, 5]]]}, "got 1 lists for 2 pictures"),
        ({"boxes": [[1, 0, 0, 30, 20]]}, r"corner \(30, 20\) lies outside the 20x60"),
        ({"boxes": [[0, 0, 0, 10, 50]]}, r"corner \(10, 50\) lies outside the 40x30"),
        ({"boxes": 7}, "boxes: expected"),
        ({"polygons": [[[0, 0], [5, 0], [5, 5]]]}, "polygons: taken with one picture only"),
        ({"metric": "box"}, "metric: 'box' is of one picture"),
        ({"images": ["a.png", "none.png"]}, "none.png"),
    ],
)
def test_hostile_rows_are_refused_in_one_line(
    folder: Path, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(SampleError, match=words) as caught:
        read(folder, {**PAIR, **fields})
    assert "m.jsonl:1:" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) <= 500
