"""Plausible calls with the wrong thing: a typed error of one line, or simply the right result."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import tokenlens as tl
from tests.support.builders import tiny_qwen2_vl
from tokenlens.errors import ModelError, SampleError, ScheduleError
from tokenlens.schedule import ModelRef

STAGE = {"score_layer": 2, "when": "after", "keep": 0.5, "disposal": "drop"}
CONTENT = {
    "schema": 1,
    "method": "mine",
    "model": {
        "id": None,
        "revision": None,
        "architecture": "Qwen2VLForConditionalGeneration",
        "layers": 4,
    },
    "stages": [STAGE],
    "budget": {"average": 0.5},
}


@pytest.mark.parametrize("schedule", ["out.json", CONTENT, None])
def test_what_is_no_schedule_is_said(schedule):
    with (
        pytest.raises(ScheduleError, match=r"for a schedule; make one with Schedule\.load"),
        tl.prune(tiny_qwen2_vl(), schedule),
    ):
        pass


def test_evaluate_wants_a_vlm_and_samples():
    model = tiny_qwen2_vl()
    with pytest.raises(ModelError, match=r"VLM\.wrap"):
        tl.evaluate(model, [])
    with pytest.raises(SampleError, match="load_samples"):
        tl.evaluate(tl.VLM.wrap(model), "scenes")


def test_a_string_of_answers_is_refused_rather_than_read_letter_by_letter():
    picture = Image.new("RGB", (4, 4))
    with pytest.raises(SampleError, match=r"answers: expected a tuple"):
        tl.Sample("1", picture, "what colour ?", answers="green")
    with pytest.raises(SampleError, match=r"boxes\[0\]: expected four numbers"):
        tl.Sample("1", picture, "where ?", boxes=(0, 0, 4, 4))


@pytest.mark.parametrize("method", ["fastv", "pdrop", "swiftvlm", "tokenlens"])
@pytest.mark.parametrize("layers", [[-1, 4], ["3"], [2.5], [True, 4], 3, "35", [[3]]])
def test_layers_that_are_none_are_said_in_one_line(method, layers):
    model = ModelRef(architecture="A", layers=12)
    with pytest.raises(ScheduleError, match=r"layers: got .*expected") as refused:
        tl.Schedule.preset(method, model, budget="60%", layers=layers)
    assert "\n" not in str(refused.value)


def test_layers_may_be_an_array():
    model = ModelRef(architecture="A", layers=12)
    found = tl.Schedule.preset("swiftvlm", model, budget="60%", layers=np.array([3, 7]))
    assert found == tl.Schedule.preset("swiftvlm", model, budget="60%", layers=[3, 7])


def test_a_budget_in_tokens_needs_no_processor():
    schedule = tl.Schedule.preset("fastv", tiny_qwen2_vl(32), budget=192)
    assert schedule.budget.n_visual == 576
    assert round(schedule.stages[0].keep * 576) == 166


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("schema", {"schema": True}),
        ("schema", {"schema": 1.0}),
        ("why.scores", {"why": {"scores": ["0.5"]}}),
        ("why.scores", {"why": {"scores": [float("inf")]}}),
    ],
)
def test_values_that_only_look_right_are_refused(key, change):
    with pytest.raises(ScheduleError, match=key.replace(".", r"\.")):
        tl.Schedule(**CONTENT | change)


def test_a_saved_file_has_only_keys_that_say_something_and_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "out.json"
    tl.Schedule(**CONTENT).save(path)
    assert json.loads(path.read_text())["budget"] == {"average": 0.5}
    assert json.loads(path.read_text())["model"] == CONTENT["model"]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert tl.Schedule.load(path) == tl.Schedule(**CONTENT)


def test_measures_take_tensors_as_models_give_them():
    rows = torch.rand(3, 8, dtype=torch.float64)
    expected = tl.rank_correlation(rows.numpy())
    assert np.array_equal(tl.rank_correlation(rows.clone().requires_grad_()), expected)
    assert tl.rank_correlation([rows.bfloat16()]).shape == (3, 3)
    mask = torch.tensor([1, 0, 0, 1, 0, 0, 0, 0])
    assert np.array_equal(
        tl.region_overlap([rows], [mask]), tl.region_overlap(rows.numpy(), mask.bool().numpy())
    )
    with pytest.raises(ValueError, match="a mask, no indices"):
        tl.region_overlap([rows], [[0, 3]])


def test_stages_may_be_a_numpy_integer():
    scores = [0.1, 0.1, 0.2, 0.3, 0.5]
    assert tl.select_layers(scores, stages=np.int64(2)) == tl.select_layers(scores, stages=2)
