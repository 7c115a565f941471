"""Manifest lines with huge, empty, doubled or impossible values: each is read, or refused in a line
that names file, line and field."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tokenlens as tl
from tests.conftest import Ended
from tokenlens.errors import SampleError
from tokenlens.evaluation.metrics.sample_metrics import METRICS
from tokenlens.samples.manifest import read_manifest
from tokenlens.samples.metric_names import METRIC_NAMES
from tokenlens.samples.sample import MOST_CHARACTERS

GOOD: dict[str, Any] = {"id": "a", "image": "p.png", "question": "what?", "answer": "red"}
NONE = {key: value for key, value in GOOD.items() if key != "image"}
PAIR = {**NONE, "images": ["p.png", "p.png"]}
BOXES = '{"id": "b", "image": "p.png", "question": "what?", "boxes": [[0, 0, %s, 5]]}'
LINES: dict[str, tuple[dict[str, Any] | str, list[str]]] = {
    "digits": (BOXES % ("9" * 5000), ["digits"]),
    "digits-in-text": ('{"id": %s}' % ("9" * 5000), ["digits"]),
    "beyond-float": (BOXES % ("9" * 400), ["boxes[0][2]"]),
    "exponent": (BOXES % "1e999", ["boxes[0][2]"]),
    "nan": (BOXES % "NaN", ["boxes[0][2]"]),
    "infinity": (BOXES % "Infinity", ["boxes[0][2]"]),
    "minus-infinity": (BOXES % "-Infinity", ["boxes[0][2]"]),
    "null": (BOXES % "null", ["boxes[0][2]"]),
    "doubled": ('{"id": "b", "id": "c", "image": "p.png", "question": "?"}', ["'id'", "twice"]),
    "doubled-inside": ('{"id": "b", "boxes": [{"x": 1, "x": 2}]}', ["'x'", "twice"]),
    "long-question": (
        {**GOOD, "question": "x" * 10_000_000},
        ["question", "10,000,000", "100,000"],
    ),
    "long-answer": ({**GOOD, "answer": "x" * 100_001}, ["answers[0]", "100,001"]),
    "long-id": ({**GOOD, "id": "x" * 10_001}, ["id", "10,001"]),
    "long-path": ({**GOOD, "image": "x" * 5_000}, ["image", "path of a picture"]),
    "metric": ({**GOOD, "metric": "vqaa"}, ["metric", "did you mean 'vqa'"]),
    "empty-id": ({**GOOD, "id": ""}, ["id", "empty"]),
    "empty-task": ({**GOOD, "task": "  "}, ["task", "empty"]),
    "empty-image": ({**GOOD, "image": ""}, ["image", "path of a picture"]),
    "nul-image": ({**GOOD, "image": "a\0b.png"}, ["image", "path of a picture"]),
    "empty-answer": ({**GOOD, "answer": ""}, ["answer", "empty"]),
    "empty-among-answers": ({**GOOD, "answer": ["red", " "]}, ["answer", "empty"]),
    "image-is-null": ({**GOOD, "image": None}, ["image", "got None"]),
    "images": ({**GOOD, "image": ["p.png", "p.png"]}, ["image", "expected a text"]),
    "surrogate": ('{"id": "b\\ud800", "image": "p.png", "question": "what?"}', []),
    "a-page": ({**GOOD, "boxes": "x" * 50_000}, ["boxes", "…"]),
    "number-as-id": ({**GOOD, "id": 7}, ["id", "got 7"]),
    "images-empty": ({**NONE, "images": []}, ["images", "at least one"]),
    "images-null": ({**NONE, "images": None}, ["images", "a list"]),
    "images-nested": ({**NONE, "images": [["p.png"]]}, ["images[0]", "path of a picture"]),
    "images-huge-path": ({**NONE, "images": ["p.png", "x" * 5_000]}, ["images[1]", "path"]),
    "image-and-images": ({**GOOD, "images": ["p.png"]}, ["image, images", "one of them"]),
    "images-and-frames": (
        {**PAIR, "frames": ["p.png"]},
        ["images, frames: given together", "one of them"],
    ),
    "image-images-frames": (
        {**PAIR, "image": "p.png", "frames": []},
        ["image, images, frames: given together"],
    ),
    "frames-empty": ({**NONE, "frames": []}, ["frames", "at least one"]),
    "frames-a-video": ({**NONE, "frames": ["a.mp4"]}, ["frames[0]", "video files are not read"]),
    "image-a-video": ({**GOOD, "image": "a.MOV"}, ["image", "video files are not read"]),
    "video": ({**NONE, "video": "a.mp4"}, ["video", "video files are not read", "frames"]),
    "index-beyond": ({**PAIR, "boxes": [[2, 0, 0, 5, 5]]}, ["boxes[0]", "expected 0 to 1"]),
    "index-negative": ({**PAIR, "boxes": [[-1, 0, 0, 5, 5]]}, ["boxes[0]", "expected 0 to 1"]),
    "index-a-text": ({**PAIR, "boxes": [["0", 0, 0, 5, 5]]}, ["boxes[0]", "expected 0 to 1"]),
    "index-huge": (
        '{"id": "b", "images": ["p.png", "p.png"], "question": "?", "boxes": [[%s, 0, 0, 5, 5]]}'
        % ("9" * 4000),
        ["boxes[0]", "expected 0 to 1"],
    ),
    "no-index": ({**PAIR, "boxes": [[0, 0, 5, 5]]}, ["boxes[0]", "[index, x0, y0, x1, y1]"]),
    "one-list-for-two": ({**PAIR, "boxes": [[[0, 0, 5, 5]]]}, ["boxes", "1 lists for 2"]),
    "mixed-lists": ({**PAIR, "boxes": [[[0, 0, 5, 5]], [0, 0, 5, 5]]}, ["boxes[0]", "index"]),
    "lists-too-deep": ({**PAIR, "boxes": [[[[0, 0, 5, 5]]], []]}, ["boxes[0]"]),
    "boxes-of-objects": ({**PAIR, "boxes": [{"x": 1}]}, ["boxes", "index"]),
    "box-outside-its-picture": (
        {**PAIR, "boxes": [[1, 0, 0, 50, 5]]},
        ["boxes[0]", "outside the 40x30"],
    ),
    "nan-in-an-indexed-box": (
        '{"id": "b", "images": ["p.png", "p.png"], "question": "?", "boxes": [[1, 0, 0, NaN, 5]]}',
        ["boxes[0]"],
    ),
    "polygons-of-two": (
        {**PAIR, "polygons": [[[0, 0], [5, 0], [5, 5]]]},
        ["polygons", "one picture only"],
    ),
    "anchors-of-two": ({**PAIR, "anchors": [[0, 0, 5, 5]]}, ["anchors", "one picture only"]),
    "box-of-no-picture": ({**NONE, "boxes": [[0, 0, 5, 5]]}, ["boxes", "no picture"]),
    "box-metric-of-no-picture": ({**NONE, "metric": "box"}, ["metric", "needs a picture"]),
}


def write(folder: Path, line: dict[str, Any] | str) -> Path:
    Image.new("RGB", (40, 30), "red").save(folder / "p.png")
    if isinstance(line, dict):
        line = json.dumps({**line, "id": "b"} if line["id"] == "a" else line)
    path = folder / "m.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", LINES)
def test_a_hostile_line_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    line, words = LINES[name]
    path = write(tmp_path, line)
    with pytest.raises(SampleError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:2: ")
    assert message.isprintable()
    assert len(message.replace(str(tmp_path), "")) < 500
    assert all(word in message for word in words), message[:500]


def test_the_control_is_read(tmp_path: Path) -> None:
    line = BOXES % "1e1"
    samples = read_manifest(write(tmp_path, line))
    assert samples[1].boxes == ((0, 0, 10, 5),)
    assert samples[1].answers == ()
    long = {**GOOD, "question": "x" * MOST_CHARACTERS["question"], "answer": None}
    assert read_manifest(write(tmp_path, long))[1].answers == ()


def test_rows_of_several_pictures_and_of_none_are_read(tmp_path: Path) -> None:
    rows = [
        {**NONE, "id": "none"},
        {**PAIR, "boxes": [[1, 0, 0, 5, 5]]},
        {**PAIR, "boxes": [[], [[0, 0, 5, 5]]]},
        {**NONE, "frames": ["p.png"] * 3, "boxes": [[2, 0, 0, 5, 5]]},
        {**NONE, "images": ["p.png"], "boxes": [[0, 0, 5, 5]]},
        {**NONE, "images": ["p.png"], "boxes": [[0, 0, 0, 5, 5]]},
    ]
    read = [read_manifest(write(tmp_path, {**row, "id": "b"}))[1] for row in rows]
    assert [len(sample.pictures) for sample in read] == [0, 2, 2, 3, 1, 1]
    assert [sample.text_only for sample in read] == [True] + [False] * 5
    assert [sample.boxes for sample in read] == [(), *[((0, 0, 5, 5),)] * 5]
    assert [sample.box_images for sample in read] == [(), (1,), (1,), (2,), (), ()]


def test_refusals_reach_the_command_line(command: Callable[..., Ended], tmp_path: Path) -> None:
    path = write(tmp_path, LINES["metric"][0])
    ended = command("profile", "--data", path)
    assert ended.code == 2
    assert "m.jsonl:2: metric: got 'vqaa'" in ended.line


def test_names_of_metrics_are_those_that_there_are() -> None:
    assert set(METRIC_NAMES) == set(METRICS)


PICTURE = Image.new("RGB", (40, 30))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image": None}, "image: got NoneType, expected a path"),
        (
            {"image": (PICTURE, PICTURE)},
            "image: got a tuple of 2; further pictures go into more_images",
        ),
        ({"image": [PICTURE]}, "image: got a list of 1"),
        ({"image": b"bytes"}, "image: got bytes"),
        ({"text_only": True}, "text_only: expected no picture beside it"),
        ({"image": None, "text_only": True, "boxes": ((0, 0, 5, 5),)}, "the sample has no picture"),
        ({"more_images": [PICTURE]}, "more_images: expected a tuple, got list"),
        ({"more_images": (None,)}, r"more_images\[0\]: got NoneType"),
        ({"more_images": (PICTURE,), "boxes": ((0, 0, 5, 5),)}, "expected the picture of each box"),
        (
            {"boxes": ((0, 0, 5, 5),), "box_images": (1,)},
            r"box_images: got \(1,\), expected 0 to 0",
        ),
        ({"box_images": (0,)}, "box_images: expected a tuple of 0"),
        ({"id": 7}, "sample 7: id: expected a text, got 7"),
        ({"question": None}, "question: expected a text, got None"),
        ({"question": "x" * 100_001}, "question: has 100,001 characters"),
        ({"question": "\ud800"}, "question: holds half of a surrogate pair"),
        ({"answers": (3,)}, r"answers\[0\]: expected a text, got 3"),
        ({"answers": None}, "answers: expected a tuple"),
        ({"boxes": None}, "boxes: expected a list"),
        ({"boxes": ((0, 0, 10**400, 5),)}, r"boxes\[0\]: expected finite numbers"),
        ({"boxes": (("a", 0, 1, 5),)}, r"boxes\[0\]: expected finite numbers"),
        ({"polygons": ((1, 2, 3),)}, r"polygons\[0\]: expected corners"),
        ({"id": "x" * 10_001, "image": None}, "x...x"),
    ],
)
def test_samples_made_in_python_are_refused_in_one_line(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SampleError, match=words) as caught:
        tl.Sample(**{"id": "s", "image": PICTURE, "question": "what?", **fields})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
