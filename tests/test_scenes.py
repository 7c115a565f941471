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
from tokenlens.data.questions import KINDS, Question, ask, box_answer
from tokenlens.data.scenes import (
    CELL,
    COLOURS,
    COUNTS,
    GRID,
    SHAPES,
    SIDES,
    SIZE,
    Scene,
    jpeg,
    make_scene,
    outline,
    overlap,
    render,
)

SHIPPED = Path(make_scenes.__file__).parent / "scenes"
TASKS = ("localisation", "text", "attribute", "existence", "count")
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


def answers(scene: Scene, text: str) -> set[str]:
    """Every answer a question's words allow, worked out apart from the generator."""
    words = text.removesuffix(" ?").split()
    singular = {plural: shape for shape, plural in SHAPES.items()}
    wanted = {singular.get(word, word) for word in words}
    colours, shapes = wanted & set(COLOURS), wanted & set(SHAPES)
    meant = [t for t in scene.things if colours <= {t.colour} and shapes <= {t.shape}]
    if words[0] == "is":
        return {"yes" if meant else "no"}
    if words[0] == "how":
        return {str(len(meant))}
    if words[0] == "where":
        return {box_answer(t.box) for t in meant}
    field = {"letter": "letter", "colour": "colour", "shape": "shape"}[words[1]]
    # Two things of one name would be two questions even if their letters were alike.
    return {f"{getattr(t, field)}" for t in meant} if len(meant) == 1 else {"many"}


@given(seeds, st.sampled_from(TASKS))
@settings(max_examples=300)
def test_every_question_has_exactly_its_one_answer(seed: int, task: str) -> None:
    rng = random.Random(seed)
    scene = make_scene(rng)
    question = ask(scene, task, rng)
    if question is None:
        assert task == "attribute"
        return
    assert question.task == task
    assert answers(scene, question.text) == {question.answer}
    assert all(target in scene.things for target in question.targets)
    if task == "localisation":
        assert box_answer(question.targets[0].box) == question.answer
    if task == "existence":
        assert bool(question.targets) == (question.answer == "yes")
    if task == "count":
        assert str(len(question.targets)) == question.answer


def test_short_questions_hold_the_words_that_matter() -> None:
    rng = random.Random(1)
    for _ in range(200):
        scene = make_scene(rng)
        for task in KINDS:
            question = ask(scene, task, rng)
            if isinstance(question, Question):
                long = question.text.removesuffix(" ?").split()
                assert set(question.short.split()) <= set(long)
                meant = set(long) & {*COLOURS, *SHAPES, *SHAPES.values()}
                assert meant <= set(question.short.split())


def test_existence_is_balanced() -> None:
    rng = random.Random(2)
    counted: Counter[str] = Counter()
    for _ in range(600):
        question = ask(make_scene(rng), "existence", rng)
        assert question is not None
        counted[question.answer] += 1
    assert 0.44 < counted["yes"] / 600 < 0.56


def shipped(split: str) -> list[dict]:
    lines = (SHIPPED / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("split", "pictures", "questions"), [("calibration", 60, 250), ("held-out", 120, 500)]
)
def test_shipped_split(split: str, pictures: int, questions: int) -> None:
    rows = shipped(split)
    assert len(rows) >= questions
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({row["image"] for row in rows}) == pictures
    assert set(Counter(row["task"] for row in rows)) == set(TASKS)
    if split == "held-out":
        assert min(Counter(row["task"] for row in rows).values()) >= 100
    for row in rows:
        assert list(row) == ["id", "image", "question", "answer", "task", "boxes", "anchors"]
        assert re.fullmatch(rf"images/{split}-\d{{4}}\.jpg", row["image"])
        for x0, y0, x1, y1 in row["boxes"]:
            assert 0 <= x0 < x1 <= SIZE
            assert 0 <= y0 < y1 <= SIZE
        if row["task"] == "localisation":
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
