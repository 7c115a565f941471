from math import isnan
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenlens.evaluation.metrics.sample_metrics import (
    box_accuracy,
    exact_match,
    iou,
    normalise,
    parse_box,
    score,
)
from tokenlens.evaluation.metrics.set_metrics import set_figures
from tokenlens.samples.sample import Sample

SIZE = (200, 100)


def boxes(most):
    """Boxes of whole numbers from 0 to `most`."""
    side = st.lists(st.integers(0, most), min_size=2, max_size=2, unique=True).map(sorted)
    return st.tuples(side, side).map(lambda xy: (xy[0][0], xy[1][0], xy[0][1], xy[1][1]))


def sample(task="question", answers=("red",), box=None):
    boxes = () if box is None else (box,)
    return Sample("s", Path("s.png"), "what?", answers=answers, task=task, boxes=boxes)


@pytest.mark.parametrize(
    "answer",
    [
        "(100,200),(300,400)",
        "<|object_ref_start|>cup<|object_ref_end|><|box_start|>(100,200),(300,400)<|box_end|>",
        "( 100 , 200 ) , ( 300 , 400 )",
        "(100,200)(300,400)",
        "the box is\n(100,200),\n(300,400).",
        "(100,200),(300,400) and (0,0),(1,1)",
    ],
)
def test_qwen_boxes_are_read_with_and_without_dressing(answer):
    assert parse_box(answer) == (0.1, 0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "left",
        "(100,200)",
        "(100,200),(300",
        "(1,2,3),(4,5)",
        "(300,200),(100,400)",
        "(100,200),(100,400)",
        "(100,200),(300,1001)",
        "(-100,200),(300,400)",
        "(0.1,0.2),(0.3,0.4)",
        "(" + "9" * 5000 + ",1),(2,3)",
        "(\N{ARABIC-INDIC DIGIT THREE},1),(500,500)",
    ],
)
def test_malformed_boxes_score_zero_and_do_not_raise(answer):
    assert parse_box(answer) is None
    assert score(answer, sample("localisation", box=(0, 0, 50, 50)), SIZE) == 0


@given(st.text())
def test_no_text_makes_a_metric_raise(answer):
    found = parse_box(answer)
    assert found is None or (found[0] < found[2] and found[1] < found[3])
    for task in ("localisation", "text"):
        assert score(answer, sample(task, box=(0, 0, 50, 50)), SIZE) in (0, 1)


@given(boxes(1000))
def test_a_written_box_is_read_back(box):
    answer = f"({box[0]},{box[1]}),({box[2]},{box[3]})"
    assert parse_box(answer) == pytest.approx([number / 1000 for number in box])


@given(boxes(20), boxes(20))
def test_iou_counts_cells(a, b):
    def cells(box):
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    assert iou(a, b) == pytest.approx(len(cells(a) & cells(b)) / len(cells(a) | cells(b)))
    assert iou(a, b) == iou(b, a)
    assert iou(a, a) == 1


def test_boxes_count_from_an_iou_of_one_half_of_the_picture_as_displayed():
    target = sample("localisation", box=(0, 0, 100, 100))  # the left half of 200 x 100
    assert box_accuracy("(0,0),(500,1000)", target, SIZE) == 1
    assert box_accuracy("(0,0),(1000,1000)", target, SIZE) == 1  # exactly 0.5
    assert box_accuracy("(1,0),(1000,1000)", target, SIZE) == 0
    assert box_accuracy("(0,0),(500,1000)", target, (100, 200)) == 0


def test_exact_match_forgives_case_spaces_and_outer_punctuation_only():
    assert exact_match(" Red.\n", sample(), SIZE) == 1
    assert exact_match("the red", sample(), SIZE) == 0
    assert exact_match("", sample(), SIZE) == 0
    assert exact_match("crimson", sample(answers=("red", "Crimson")), SIZE) == 1
    assert exact_match("35", sample(answers=("3.5",)), SIZE) == 0
    assert exact_match("5", sample(answers=("-5",)), SIZE) == 0
    assert exact_match("", sample(answers=("?",)), SIZE) == 0


@pytest.mark.parametrize(
    ("said", "right"),
    [("红色。", "红色"), ("「红色」！", "红色"), ("“Red.”", "red"), ("cafe\u0301", "caf\u00e9")],  # noqa: RUF001
)
def test_exact_match_knows_other_scripts_punctuation_and_accents(said, right):
    assert exact_match(said, sample(answers=(right,)), SIZE) == 1


@given(st.text())
def test_normalising_twice_changes_nothing(answer):
    assert normalise(normalise(answer)) == normalise(answer)


def test_the_task_chooses_the_metric():
    box, word = "(0,0),(500,1000)", "red"
    target = {"answers": ("red",), "box": (0, 0, 100, 100)}
    assert score(box, sample("localisation", **target), SIZE) == 1
    assert score(word, sample("localisation", **target), SIZE) == 0
    assert score(word, sample("attribute", **target), SIZE) == 1
    assert score(box, sample("attribute", **target), SIZE) == 0


@pytest.mark.parametrize("metric", ["pope", "mme"])
@pytest.mark.parametrize("right", ["yes", "Yes", "NO", "no"])
def test_yes_and_no_are_right_in_any_case(metric, right):
    """As data sets write them: "Yes" must not be read as a no."""
    asked = Sample("s", Path("s.png"), "is it?", answers=(right,), metric=metric)
    other = "no" if right.lower() == "yes" else "yes"
    assert (score(right, asked, SIZE), score(other, asked, SIZE)) == (1, 0)
    rows = pd.DataFrame(
        {"task": ["t"], "metric": ["pope"], "score": [1.0], "prediction": [right]}
    ).assign(answers=[[right]])
    recall = {name: value for _, name, value in set_figures(rows)}["recall"]
    assert recall == 1 if right.lower() == "yes" else isnan(recall)


def test_samples_without_ground_truth_have_no_score():
    assert isnan(score("red", sample(answers=()), SIZE))
    assert isnan(score("(0,0),(500,1000)", sample("localisation"), SIZE))


def test_samples_of_a_manifest_have_no_group_and_are_no_single_group():
    """Accuracy⁺ is then of the pictures, circular accuracy of the questions, each by itself."""
    rows = pd.DataFrame(
        {
            "task": ["count"] * 5,
            "group": [""] * 5,
            "image": ["a.png", "a.png", "b.png", "b.png", ""],
            "score": [1.0, 1.0, 1.0, 0.0, 1.0],
        }
    )
    mme = {name: value for _, name, value in set_figures(rows.assign(metric="mme"))}
    assert mme["accuracy⁺"] == pytest.approx(2 / 3)
    circular = {value for _, _, value in set_figures(rows.assign(metric="mmbench"))}
    assert circular == {0.8}
