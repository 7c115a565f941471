"""Scenes and their questions: determinism, geometry, one right answer, and the splits that ship."""

from __future__ import annotations

import io
import json
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tokenlens.data import make_scenes
from tokenlens.data.questions import ask, box_answer
from tokenlens.data.scenes import (
    CELL,
    COLOURS,
    COUNTS,
    GRID,
    LETTERS,
    SHAPES,
    SIDES,
    SIGNS,
    SIZE,
    Scene,
    Thing,
    jpeg,
    make_scene,
    outline,
    overlap,
    render,
)

SHIPPED = Path(make_scenes.__file__).parent / "scenes"
TASKS = (
    *("localisation", "text", "attribute", "existence"),
    *("deep-localisation", "deep-text", "deep-attribute", "deep-existence"),
)
seeds = st.integers(0, 2**32)


@given(seeds)
def test_things_stand_in_the_picture_and_apart(seed: int) -> None:
    scene = make_scene(random.Random(seed))
    assert COUNTS[0] <= len(scene.things) <= COUNTS[1]
    for thing in scene.things:
        x0, y0, x1, y1 = thing.box
        assert 0 <= x0 < x1 <= GRID
        assert 0 <= y0 < y1 <= GRID
        assert x1 - x0 == y1 - y0
        assert SIDES[0] <= x1 - x0 <= SIDES[1]
    for i, thing in enumerate(scene.things):
        for other in scene.things[i + 1 :]:
            assert not overlap(thing.box, other.box)
            assert (thing.colour, thing.shape) != (other.colour, other.shape)


@given(seeds)
@settings(max_examples=20)
def test_outlines_touch_all_sides_of_their_boxes(seed: int) -> None:
    for thing in make_scene(random.Random(seed)).things:
        xs, ys = zip(*outline(thing), strict=True)
        x0, y0, x1, y1 = thing.pixels
        assert (min(xs), min(ys), max(xs), max(ys)) == pytest.approx((x0, y0, x1 - 1, y1 - 1))


def test_the_same_seed_gives_the_same_picture_and_another_does_not() -> None:
    def paint(seed: int) -> bytes:
        rng = random.Random(seed)
        return render(make_scene(rng), rng).tobytes()

    assert paint(7) == paint(7)
    assert paint(7) != paint(8)


def test_pictures_are_small_rgb_jpegs() -> None:
    rng = random.Random(0)
    file = jpeg(render(make_scene(rng), rng))
    picture = Image.open(io.BytesIO(file))
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (SIZE, SIZE))
    assert len(file) < 16_000


def test_a_thing_is_painted_where_its_box_says() -> None:
    rng = random.Random(3)
    scene = make_scene(rng)
    pixels = np.asarray(render(scene, rng), dtype=int)
    for thing in scene.things:
        x0, y0, x1, y1 = thing.pixels
        near = np.abs(pixels - COLOURS[thing.colour]).max(axis=-1) <= 12
        assert near[y0:y1, x0:x1].mean() > 0.2


def meant(scene: Scene, words: list[str]) -> list[Thing]:
    """The things that have every colour, shape and letter among the words."""
    return [
        thing
        for thing in scene.things
        if {w for w in words if w in COLOURS} <= {thing.colour}
        and {w for w in words if w in SHAPES} <= {thing.shape}
        and {w for w in words if w in LETTERS} <= {thing.letter}
    ]


def answers(scene: Scene, text: str) -> set[str]:
    """Every answer a question's words allow, worked out apart from the generator."""
    first, _, second = text.removesuffix(" ?").rpartition(" : ")
    words, asked = second.split(), second.split()
    if first:
        begun, _, to = first.partition(" to ")
        (start,) = meant(scene, begun.split())
        words = [*to.split(), *second.split(), SIGNS[start.letter]]
    found = meant(scene, words)
    if asked[0] == "is":
        return {"yes" if found else "no"}
    if asked[0] == "where":
        return {box_answer(thing.box) for thing in found}
    # Two things of one name would be two questions even if their letters were alike.
    return {getattr(thing, asked[1]) for thing in found} if len(found) == 1 else {"many"}


@given(seeds, st.sampled_from(TASKS))
@settings(max_examples=400)
def test_every_question_has_exactly_its_one_answer(seed: int, task: str) -> None:
    rng = random.Random(seed)
    scene = make_scene(rng)
    question = ask(scene, task, rng)
    assert question is not None
    assert question.task == task
    assert answers(scene, question.text) == {question.answer}
    assert all(thing in scene.things for thing in (*question.targets, *question.anchors))
    assert len(question.anchors) == task.startswith("deep-")
    assert not set(question.anchors) & set(question.targets)
    if "localisation" in task:
        assert box_answer(question.targets[0].box) == question.answer
    if "existence" in task:
        assert bool(question.targets) == (question.answer == "yes")
    else:
        assert len(question.targets) == 1


def test_a_deep_question_cannot_be_answered_by_its_words_alone() -> None:
    """What must be looked for second is not named: the target's colour is never in the text."""
    rng = random.Random(1)
    for _ in range(200):
        question = ask(make_scene(rng), "deep-localisation", rng)
        assert question is not None
        (target,) = question.targets
        words = question.text.partition(" to ")[2].split()
        assert target.colour not in words
        assert target.shape in words


@pytest.mark.parametrize("task", ["existence", "deep-existence"])
def test_existence_is_balanced(task: str) -> None:
    rng = random.Random(2)
    counted: Counter[str] = Counter()
    for _ in range(600):
        question = ask(make_scene(rng), task, rng)
        assert question is not None
        counted[question.answer] += 1
    assert 0.44 < counted["yes"] / 600 < 0.56


def test_every_colour_has_its_sign() -> None:
    assert set(SIGNS) == set(LETTERS)
    assert sorted(SIGNS.values()) == sorted(COLOURS)


def shipped(split: str) -> list[dict]:
    lines = (SHIPPED / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("split", "pictures", "questions"), [("calibration", 60, 480), ("held-out", 160, 1280)]
)
def test_shipped_split(split: str, pictures: int, questions: int) -> None:
    rows = shipped(split)
    assert len(rows) >= questions
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({row["image"] for row in rows}) == pictures
    assert set(Counter(row["task"] for row in rows)) == set(TASKS)
    if split == "held-out":
        assert min(Counter(row["task"] for row in rows).values()) >= 160
    for row in rows:
        assert list(row) == ["id", "image", "question", "answer", "task", "boxes", "anchors"]
        assert re.fullmatch(rf"images/{split}-\d{{4}}\.jpg", row["image"])
        for x0, y0, x1, y1 in row["boxes"]:
            assert 0 <= x0 < x1 <= SIZE
            assert 0 <= y0 < y1 <= SIZE
        if "localisation" in row["task"]:
            ((x0, y0, x1, y1),) = row["boxes"]
            assert row["answer"] == box_answer((x0 // CELL, y0 // CELL, x1 // CELL, y1 // CELL))
    with Image.open(SHIPPED / rows[0]["image"]) as picture:
        assert picture.size == (SIZE, SIZE)


@pytest.mark.parametrize("split", list(make_scenes.SPLITS))
def test_shipped_split_is_made_again_line_by_line(split: str) -> None:
    made = [
        row
        for index in range(make_scenes.SPLITS[split])
        for row in make_scenes.rows(split, index)[1]
    ]
    assert made == shipped(split)


def test_writing_a_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(make_scenes.SPLITS, "calibration", 2)
    manifest = make_scenes.write_split("calibration", tmp_path)
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    assert rows == shipped("calibration")[: len(rows)]
    assert all((tmp_path / row["image"]).is_file() for row in rows)


def test_splits_and_training_draw_different_scenes() -> None:
    scenes = {
        make_scene(make_scenes.split_rng(split, index))
        for split in ("calibration", "held-out", "train-vision", "train-select")
        for index in range(60)
    }
    assert len(scenes) == 240
