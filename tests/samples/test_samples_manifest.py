"""Manifests and data sets: what is read, and what is said about lines that cannot be."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tokenlens.errors import SampleError
from tokenlens.samples.dataset import Samples, load_samples
from tokenlens.samples.manifest import read_manifest
from tokenlens.samples.sample import Sample

GOOD: dict[str, Any] = {"id": "a", "image": "p.png", "question": "what?", "answer": "red"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "p.png")
    return tmp_path


def write(folder: Path, *rows: dict[str, Any] | str, name: str = "m.jsonl") -> Path:
    path = folder / name
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_full_line_and_a_short_one(folder: Path) -> None:
    full = {
        **GOOD,
        "answer": ["red", "scarlet"],
        "task": "attribute",
        "boxes": [[0, 0, 10.5, 30]],
        "polygons": [[[1, 2], [5, 2], [3, 9]]],
        "anchors": [[20, 0, 40, 10]],
    }
    path = write(folder, full, "", {**GOOD, "id": "b", "image": str(folder / "p.png")})
    first, second = read_manifest(path)
    assert first.answers == ("red", "scarlet")
    assert first.boxes == ((0.0, 0.0, 10.5, 30.0),)
    assert first.polygons == (((1, 2), (5, 2), (3, 9)),)
    assert first.anchors == ((20, 0, 40, 10),)
    assert first.open_image().size == (40, 30)
    assert second == Sample("b", folder / "p.png", "what?", ("red",))


def test_windows_line_ends_and_byte_order_mark(folder: Path) -> None:
    path = folder / "m.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n")
    assert len(read_manifest(path)) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{not json", ["bad JSON", "column"]),
        ("[1]", ["top level", "an object"]),
        ("[" * 100_000, ["bad JSON"]),
        ({**GOOD, "question": 3}, ["question", "got 3", "a text"]),
        ({**GOOD, "answer": []}, ["answer", "at least one"]),
        ({**GOOD, "answer": [3]}, ["answer[0]", "a text"]),
        ({**GOOD, "answer": "true", "metric": "pope"}, ["'true'", "expects yes or no"]),
        ({**GOOD, "answer": ["yes", "no"], "metric": "mme"}, ["'no'", "expects yes or no"]),
        ({**GOOD, "answer": "a cat", "metric": "choice"}, ["'a cat'", "letter of the right"]),
        ({**GOOD, "answer": ["b", "a cat"], "metric": "mmbench"}, ["'b'", "letter of the right"]),
        ({**GOOD, "answre": "x"}, ["answre", "did you mean 'answer'?"]),
        ({"id": "b", "image": "p.png", "answer": "x"}, ["question", "missing"]),
        ({**GOOD, "id": "a"}, ["'a'", "line 1"]),
        ({**GOOD, "id": " "}, ["id", "empty"]),
        ({**GOOD, "question": ""}, ["question", "empty"]),
        ({**GOOD, "image": "nowhere.png"}, ["nowhere.png", "no such picture"]),
        ({**GOOD, "boxes": [[1, 2, 3]]}, ["boxes[0]"]),
        ({**GOOD, "boxes": [[1, 2, 3, 4, 5]]}, ["boxes[0]"]),
        ({**GOOD, "boxes": [[1, 2, "3", 4]]}, ["boxes[0][2]"]),
        ({**GOOD, "boxes": [[5, 2, 3, 4]]}, ["boxes[0]", "x0 < x1"]),
        ({**GOOD, "boxes": [[0, 0, 5, 5], [3, 4, 3, 9]]}, ["boxes[1]", "x0 < x1"]),
        ({**GOOD, "boxes": [[3, 4, 50, 9]]}, ["boxes[0]", "(50, 9)", "outside the 40x30 picture"]),
        ({**GOOD, "anchors": [[-2, 4, 30, 9]]}, ["anchors[0]", "outside"]),
        ({**GOOD, "polygons": [[[1, 1], [2, 2]]]}, ["polygons[0]", "three corners"]),
        ({**GOOD, "polygons": [[[1, 1], [2, 2], [3, 31]]]}, ["polygons[0]", "outside"]),
        (
            '{"id": "b", "image": "p.png", "question": "q", "answer": "x", "boxes": [[0,0,NaN,1]]}',
            [],
        ),
    ],
)
def test_a_bad_line_is_named_with_its_field(
    folder: Path, line: dict[str, Any] | str, words: list[str]
) -> None:
    if isinstance(line, dict) and line.get("id") == "a" and "line 1" not in words:
        line = {**line, "id": "b"}
    path = write(folder, GOOD, line)
    with pytest.raises(SampleError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:2: ")
    assert "\n" not in message
    assert len(message) < 400
    for word in words:
        assert word in message


def test_unusable_manifests(folder: Path) -> None:
    with pytest.raises(SampleError, match=r"m\.jsonl: the manifest is empty"):
        read_manifest(write(folder, "", "  "))
    with pytest.raises(SampleError, match="no such manifest"):
        read_manifest(folder / "nowhere.jsonl")
    with pytest.raises(SampleError, match="cannot be read"):
        read_manifest(folder)
    path = write(folder, GOOD)
    path.write_bytes(path.read_bytes() + b"\n\xff\xfe")
    with pytest.raises(SampleError, match=r"m\.jsonl:2: not UTF-8"):
        read_manifest(path)


def test_half_a_pixel_of_overshoot_is_rounding(folder: Path) -> None:
    assert read_manifest(write(folder, {**GOOD, "boxes": [[-0.3, 0, 40.4, 30]]}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_samples_made_in_python_are_checked_too(value: float) -> None:
    picture = Image.new("RGB", (40, 30))
    with pytest.raises(SampleError, match="sample 'x': boxes"):
        Sample("x", picture, "what?", boxes=((0, 0, value, 5),))
    outside = Sample("x", picture, "what?", boxes=((0, 0, 41, 5),))
    with pytest.raises(SampleError, match="outside the 40x30 picture"):
        outside.open_image()


def test_splits_names_and_hashes(folder: Path) -> None:
    write(folder, GOOD, name="calibration.jsonl")
    write(folder, GOOD, {**GOOD, "id": "b"}, name="held-out.jsonl")
    calibration, held_out = load_samples(folder), load_samples(folder, "held-out")
    assert (len(calibration), len(held_out)) == (1, 2)
    assert calibration.split == "calibration"
    assert calibration.source == str(folder)
    assert calibration.name.endswith("-calibration")
    assert calibration.hash != held_out.hash
    assert calibration.hash == load_samples(folder).hash
    assert held_out[1].id == "b"
    assert [sample.id for sample in held_out[:1]] == ["a"]
    single = load_samples(folder / "held-out.jsonl")
    assert (single.split, single.name, len(single)) == (None, "held-out", 2)


def test_one_manifest_for_both_splits(folder: Path) -> None:
    write(folder, GOOD, name="manifest.jsonl")
    for split in ("calibration", "held-out"):
        samples = load_samples(folder, split)
        assert samples.split is None
        assert samples.name == load_samples(folder / "manifest.jsonl").name
    nested = folder / "my-set"
    nested.mkdir()
    write(nested, {**GOOD, "image": "../p.png"}, name="manifest.jsonl")
    assert load_samples(nested / "manifest.jsonl").name == "my-set"


@pytest.mark.parametrize(
    ("there", "asked"), [("calibration", "held-out"), ("held-out", "calibration")]
)
def test_a_manifest_beside_one_split_is_not_taken_for_the_other(folder, there, asked) -> None:
    """It may hold the samples of both: what is chosen on one part would be judged on it."""
    write(folder, GOOD, name="manifest.jsonl")
    write(folder, GOOD, name=f"{there}.jsonl")
    assert load_samples(folder, there).split == there
    with pytest.raises(SampleError, match=rf"has {there}\.jsonl and no {asked}\.jsonl"):
        load_samples(folder, asked)


def test_the_hash_survives_a_mended_picture_but_not_another_one(folder: Path) -> None:
    path = write(folder, GOOD)
    before = load_samples(path).hash
    whole = (folder / "p.png").read_bytes()
    (folder / "p.png").write_bytes(whole[:-20])
    assert load_samples(path).hash == before
    Image.new("RGB", (41, 30)).save(folder / "p.png")
    assert load_samples(path).hash != before


def test_unusable_data_sets(folder: Path) -> None:
    with pytest.raises(SampleError, match=r"no data set .*nowhere.*'scenes'"):
        load_samples("nowhere")
    with pytest.raises(SampleError, match=r"no calibration\.jsonl.*no manifest at all"):
        load_samples(folder)
    write(folder, GOOD, name="calibration.jsonl")
    with pytest.raises(SampleError, match=r"no held-out\.jsonl.*it holds calibration\.jsonl"):
        load_samples(folder, "held-out")
    with pytest.raises(SampleError, match=r"no split 'test'.*calibration, held-out"):
        load_samples(folder, "test")
    with pytest.raises(SampleError, match="at least 1"):
        load_samples(folder, limit=0)


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(tasks=st.lists(st.sampled_from("abc"), min_size=1, max_size=12), limit=st.integers(1, 14))
def test_a_limit_takes_the_tasks_in_turn_and_keeps_the_order(
    folder: Path, tasks: list[str], limit: int
) -> None:
    rows = [{**GOOD, "id": f"{index:02}", "task": task} for index, task in enumerate(tasks)]
    path = write(folder, *rows)
    whole, part = load_samples(path), load_samples(path, limit=limit)
    ids = [sample.id for sample in part]
    assert len(ids) == min(limit, len(tasks))
    assert ids == sorted(ids)
    taken, there = Counter(s.task for s in part), Counter(tasks)
    for task, count in there.items():
        ahead = max(taken.values())
        assert taken[task] == count or taken[task] >= ahead - 1
        assert [s.id for s in part if s.task == task] == [s.id for s in whole if s.task == task][
            : taken[task]
        ]
    assert (part.hash == whole.hash) == (limit >= len(tasks))


@pytest.mark.parametrize("split", ["calibration", "held-out"])
def test_the_bundled_scenes(split: str) -> None:
    samples = load_samples("scenes", split)
    assert isinstance(samples, Samples)
    assert samples.source == "scenes"
    assert samples.name == f"scenes-{split}"
    assert samples[0].open_image().mode == "RGB"
