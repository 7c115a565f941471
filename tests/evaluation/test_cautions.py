"""What small or one-sided samples cannot tell is said, and only then."""

import json
from dataclasses import replace

import numpy as np
import pytest

import tokenlens as tl
from tests.support import synthetic
from tests.support.builders import counted_samples, save_model_directory, tiny_qwen2_vl
from tokenlens.evaluation.comparing.cautions import (
    choice_cautions,
    length_cautions,
    score_cautions,
)
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.methods.plan import plan
from tokenlens.probing.profile import Profile
from tokenlens.reports.page import build_report
from tokenlens.reports.result_sections import headline_stats
from tokenlens.schedule import ModelRef, Schedule
from tokenlens.storage.invocation import running
from tokenlens.wording import cautions


def test_enough_samples_need_no_caution():
    assert cautions.on_few({"a": 30, "none": 0}) == []
    assert cautions.on_pictures(["a", "b"]) == cautions.on_pictures(["", ""]) == []
    assert cautions.on_pictures(["a"]) == cautions.on_flat_intervals([]) == []
    assert cautions.on_zero_baseline([]) == cautions.on_whole_regions(0, 9) == []
    assert cautions.on_no_scores([0.0, 0.1]) == []
    assert cautions.on_overlap([3], [0, 0, 0.9, 0.1], [0, 0, 1.0, 0.2], 3) == []


def test_each_is_one_sentence():
    found = [
        *cautions.on_few({"a": 29}),
        *cautions.on_pictures(["a", "a"]),
        *cautions.on_flat_intervals(["x"]),
        *cautions.on_zero_baseline(["a"]),
        *cautions.on_own_samples("a.jsonl"),
        *cautions.on_overlap([3], [0, 0, 0.5, 0.4], [0, 0, 1.0, 0.6], 3),
        *cautions.on_whole_regions(2, 9),
        *cautions.on_no_scores([0.0, 0.0]),
    ]
    assert len(found) == 8
    for sentence in found:
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert "\n" not in sentence


def test_a_plan_says_what_its_profile_cannot_tell(tmp_path):
    samples = [synthetic.sample(0, tmp_path / "p", tasks=["only"]) for _ in range(3)]
    for index, row in enumerate(samples):
        row["id"] = str(index)
        row["region_boxes"] = [(0, 0, synthetic.SIDE, synthetic.SIDE)]
    profile = Profile(synthetic.write_profile(tmp_path / "profile", samples))
    with running(["tokenlens", "select-layers", "my profile"]):
        selection = plan(profile, stages=1, budget="80%")
    said = " ".join(selection.cautions)
    for words in (
        "Fewer than 30 samples of 'only' (3)",
        "one picture",
        "In 3 of 3 samples the region covers every visual token",
        "zero width",
        "meets that of others",
    ):
        assert words in said
    selection.schedule.save(tmp_path / "out.json")
    why = json.loads((tmp_path / "out.json").read_text())["why"]
    assert tuple(why["cautions"]) == selection.cautions
    assert why["command"] == ["tokenlens", "select-layers", "my profile"]
    assert why["relative_to"] == "each task's best layer"
    assert any("relative to each task's best layer" in note for note in selection.notes)

    html = build_report(profile.directory, selection.schedule, None, tmp_path / "r").html
    page = html.read_text(encoding="utf-8")
    assert "All layers cover the region alike" in page
    assert "covers the region best" not in page
    assert "the region covers every visual token" in page
    assert "tokenlens select-layers &#39;my profile&#39;" in page


def test_an_unpruned_model_that_scores_0_has_ground_truth_all_the_same(tmp_path):
    samples = [synthetic.sample(index, tmp_path / "p") for index in range(4)]
    wrong = Comparison.load(synthetic.write_results(tmp_path / "wrong", samples, score=0.0))
    assert headline_stats(wrong, "swiftvlm")[0].note == "the unpruned model scores 0"
    unscored = Comparison.load(synthetic.write_results(tmp_path / "none", samples, score=None))
    stat = headline_stats(unscored, "swiftvlm")[0]
    assert stat.label == "agreement"
    assert stat.note.endswith("since no sample is scored")
    said = " ".join(score_cautions(wrong.table(), ["a", "b", "c", "d"]))
    assert "The unpruned model scores 0 in 'where' and 'what'" in said
    assert not score_cautions(unscored.table(), ["a", "b", "c", "d"])


def test_what_was_not_measured_is_not_claimed(tmp_path):
    samples = [synthetic.sample(index, tmp_path / "p") for index in range(2)]
    results = synthetic.write_results(tmp_path / "run", samples, prefill_s=None, decode_s=None)
    assert headline_stats(Comparison.load(results), "swiftvlm")[-1].note == "not measured"
    page = build_report(None, None, results, tmp_path / "r", pictures=0).html.read_text("utf-8")
    assert "Times were not measured." in page
    assert "nan" not in page.lower().split()


@pytest.mark.parametrize(
    ("source", "split", "said"),
    [("scenes", "calibration", True), ("scenes", "held-out", False), ("other", None, False)],
)
def test_layers_judged_on_their_own_samples_are_said(source, split, said):
    why = {"data": "scenes", "split": "calibration", "scores": [0.5] * synthetic.LAYERS}
    found = choice_cautions([None, synthetic.schedule(why=why)], source, split)
    assert [("they are judged on" in one) for one in found] == [True] * said


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"average": 48, "n_visual": 144}, "48 tokens"),
        ({"average": 0.3, "n_visual": 144, "macs": 10**9}, "1 GMACs"),
        ({"average": 0.3, "n_visual": 144}, None),
        ({"average": 0.3, "n_visual": 144, "macs": 0.5}, None),
        ({"average": 48}, None),
    ],
)
def test_budgets_of_other_pictures_are_said(budget, said):
    model = ModelRef(architecture="A", layers=8)
    known = {"schema": 1, "method": "m", "model": model, "budget": budget}
    stage = {"score_layer": 2, "when": "after", "keep": 0.5, "disposal": "drop"}
    schedules = [None, *[Schedule(**known, stages=[stage])] * 2]
    assert length_cautions(schedules, 150.0) == length_cautions(schedules, 0.0) == []
    found = length_cautions(schedules, 1440.0)
    assert len(found) == (said is not None)
    assert all(f"A budget of {said} was solved for 144 visual tokens" in one for one in found)
    counted = Schedule(**known, stages=[{**stage, "keep": 24}])
    assert length_cautions([counted], 1440.0) == []  # a count is one for any picture


def test_a_comparison_says_that_its_budget_is_one_of_other_pictures(tmp_path):
    vlm = tl.load(str(save_model_directory(tmp_path / "model", tiny_qwen2_vl(4))))
    wide = [replace(one, image=one.image.resize((448, 20))) for one in counted_samples(2)]
    for budget, count in (("20 tokens", 1), ("55%", 0)):
        found = tl.compare(vlm, wide, "stride", budget, max_new_tokens=1, timed=False)
        assert sum("was solved for 36 visual tokens" in one for one in found.cautions) == count


def test_intervals_of_many_samples_are_not_called_flat(tmp_path):
    samples = [synthetic.sample(index, tmp_path / "p") for index in range(60)]
    comparison = Comparison.load(synthetic.write_results(tmp_path / "run", samples))
    assert score_cautions(comparison.table(), np.arange(60).astype(str).tolist()) == []
