"""Arms side by side: what the table says, in which order they run, what is kept and refused."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import tokenlens.evaluation.running.generation as asking_module
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.errors import OutputError, ResultsError
from tokenlens.evaluation.comparing.compare import compare
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.evaluation.running.evaluate import evaluate
from tokenlens.models.loading import load
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule
from tokenlens.storage.output_paths import kind_of

COSTS = ["tokens", "macs", "scoring_macs", "merging_macs", "kv_bytes"]
OPTIONS = {"batch_size": 2, "max_new_tokens": 3}


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return load(str(save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(6))))


@pytest.fixture(scope="module")
def samples(vlm):
    """Six questions, four of which the unpruned model answers right."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 24, 24, 3), dtype=np.uint8)
    asked = [
        Sample(
            id=f"sample-{index}",
            image=Image.fromarray(pixels[index]),
            question=("what colour ?", "how many are there ?")[index % 2],
            task=("colour", "colour", "count")[index % 3],
        )
        for index in range(6)
    ]
    said = evaluate(vlm, asked, **OPTIONS).rows["prediction"]
    return [
        replace(sample, answers=(said[index] if index < 4 else "never said",))
        for index, sample in enumerate(asked)
    ]


@pytest.fixture(scope="module")
def schedules(vlm):
    return {
        "bypass 70 %": Schedule.preset("swiftvlm", vlm, budget=0.7, layers=[3, 5], n_visual=36),
        "random": Schedule.preset("random", vlm, budget=0.4, n_visual=36),
    }


@pytest.fixture(scope="module")
def finished(vlm, samples, schedules, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "results"
    return out, compare(vlm, samples, schedules, out, **OPTIONS)


def untimed(comparison):
    return comparison.table().drop(columns=["prefill_s", "decode_s"])


def test_the_table_has_every_task_and_arm_in_order(finished):
    table = finished[1].table()
    arms = ["unpruned", "bypass 70 %", "random"]
    tasks = ["colour", "count", "all", "macro"]
    assert list(zip(table["task"], table["arm"], strict=True)) == [
        (task, arm) for task in tasks for arm in arms
    ]
    assert table["samples"].to_list() == [count for count in (4, 2, 6, 6) for _ in arms]
    assert (table["unscored"] == 0).all()


def test_scores_are_means_and_the_unpruned_model_retains_all(finished):
    table = finished[1].table().set_index(["arm", "task"])
    unpruned = table.loc["unpruned"]
    assert unpruned["score"].to_list() == pytest.approx([3 / 4, 1 / 2, 4 / 6, 5 / 8])
    assert (unpruned[["retained", "retained_low", "retained_high"]] == 1).all(axis=None)
    for arm, results in finished[1].arms.items():
        scores = results.rows["score"]
        assert table.loc[(arm, "all"), "score"] == pytest.approx(scores.mean())
        assert table.loc[(arm, "all"), "retained"] == pytest.approx(scores.mean() / (4 / 6))
    assert (table["retained_low"] <= table["retained"]).all()
    assert (table["retained"] <= table["retained_high"]).all()


def test_costs_are_means_per_sample(finished):
    table = finished[1].table().set_index(["arm", "task"])
    for arm, results in finished[1].arms.items():
        for cost, mean in results.rows[COSTS[1:]].mean().items():
            assert table.loc[(arm, "all"), cost] == pytest.approx(mean)
        assert results.rows[["prefill_s", "decode_s"]].isna().all(axis=None)
        for name in ("prefill_s", "decode_s"):
            times = finished[1].timing.of(name, [arm])
            assert (table.loc[arm, name] == times.mean()).all()
            assert (times > 0).all()
        assert table.loc[(arm, "all"), "tokens"] == pytest.approx(results.tokens_per_layer.mean())
    layers = finished[1].tokens_per_layer()
    assert layers.groupby("arm", sort=False)["tokens"].mean().to_list() == pytest.approx(
        [36, 0.7 * 36, 0.4 * 36], abs=1
    )
    assert layers["layer"].to_list() == [1, 2, 3, 4, 5, 6] * 3


def test_an_arm_is_the_run_that_evaluate_makes(vlm, samples, schedules, finished):
    for arm, schedule in {"unpruned": None, **schedules}.items():
        alone = evaluate(vlm, samples, schedule, **OPTIONS).rows
        pd.testing.assert_frame_equal(
            finished[1].arms[arm].rows.drop(columns=["prefill_s", "decode_s"]),
            alone.drop(columns=["prefill_s", "decode_s"]),
        )


def test_what_was_written_can_be_loaded_again(finished):
    out, comparison = finished
    loaded = Comparison.load(out)
    pd.testing.assert_frame_equal(loaded.table(), comparison.table())
    assert kind_of(out) == "comparison"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["schema"] == 1
    assert summary["versions"]["torch"]
    assert summary["arms"]["unpruned"]["schedule"] is None
    assert summary["arms"]["random"]["schedule"]["scorer"]["query"] == "random"
    assert summary["arms"]["random"]["model"]["config_hash"]
    assert summary["arms"]["random"]["data"]["hash"]
    written = pd.DataFrame(summary["table"])
    pd.testing.assert_frame_equal(written, comparison.table())


def watch(monkeypatch):
    """Which arm answers which samples."""
    seen, real = [], asking_module.answer

    def watched(vlm, batch, schedule, **options):
        seen.append((schedule and schedule.method, "".join(one.id[-1] for one in batch.samples)))
        return real(vlm, batch, schedule, **options)

    monkeypatch.setattr(asking_module, "answer", watched)
    return seen


def test_arms_answer_the_same_batches_which_are_of_one_task_as_far_as_can_be(
    vlm, samples, schedules, tmp_path, monkeypatch
):
    seen = watch(monkeypatch)
    compare(vlm, samples, schedules, tmp_path / "out", **OPTIONS, timed=False)
    arms = [None, "swiftvlm", "random"]
    assert seen == [(arm, batch) for batch in ("01", "34", "25") for arm in arms]


def test_an_interrupted_comparison_continues_where_each_arm_stopped(
    vlm, samples, schedules, finished, tmp_path, monkeypatch
):
    out, real = tmp_path / "out", asking_module.answer

    def interrupted(vlm, batch, schedule, **options):
        if schedule and schedule.method == "random" and batch.samples[0].id[-1] == "2":
            raise KeyboardInterrupt
        return real(vlm, batch, schedule, **options)

    with monkeypatch.context() as patch:
        patch.setattr(asking_module, "answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compare(vlm, samples, schedules, out, **OPTIONS, timed=False)
    with pytest.raises(ResultsError, match="unfinished"):
        Comparison.load(out)
    seen = watch(monkeypatch)
    again = compare(vlm, samples, schedules, out, **OPTIONS, timed=False)
    assert seen == [("random", "25")]
    pd.testing.assert_frame_equal(untimed(again), untimed(finished[1]))


def test_an_arm_added_later_is_all_that_is_run(vlm, samples, schedules, tmp_path, monkeypatch):
    out = tmp_path / "out"
    compare(vlm, samples, {"random": schedules["random"]}, out, **OPTIONS, timed=False)
    seen = watch(monkeypatch)
    both = compare(vlm, samples, schedules, out, **OPTIONS, timed=False)
    assert {method for method, _ in seen} == {"swiftvlm"}
    assert list(both.arms) == ["unpruned", *schedules]


def test_samples_without_ground_truth_are_told_and_not_counted(vlm, samples, schedules, tmp_path):
    blind = [
        replace(sample, answers=()) if sample.task == "count" else sample for sample in samples
    ]
    table = compare(vlm, blind, schedules, tmp_path / "out", **OPTIONS, timed=False).table()
    table = table.set_index(["arm", "task"]).loc["random"]
    assert table["unscored"].to_list() == [0, 2, 2, 0]
    assert np.isnan(table.loc["count", "score"])
    assert table.loc["all", "score"] == table.loc["macro", "score"] == table.loc["colour", "score"]
    json.loads((tmp_path / "out" / "summary.json").read_text(), parse_constant=pytest.fail)


def test_another_run_or_anything_else_in_the_directory_is_refused(
    vlm, samples, schedules, finished, tmp_path
):
    out = finished[0]
    with pytest.raises(OutputError, match="samples is 6, now 5"):
        compare(vlm, samples[:5], schedules, out, **OPTIONS, timed=False)
    with pytest.raises(OutputError, match="schedule"):
        compare(vlm, samples, {"random": schedules["bypass 70 %"]}, out, **OPTIONS, timed=False)
    (tmp_path / "notes.txt").write_text("mine")
    for foreign in (tmp_path, tmp_path / "notes.txt", out / "unpruned"):
        with pytest.raises(OutputError, match="holds no results"):
            compare(vlm, samples, schedules, foreign, **OPTIONS, timed=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_arms_that_would_share_a_directory_are_refused(vlm, samples, schedules, tmp_path):
    schedule = schedules["random"]
    for arms in ({"a b": schedule, "A-b": schedule}, {"unpruned": schedule}):
        with pytest.raises(OutputError, match="another name"):
            compare(vlm, samples, arms, tmp_path / "out", **OPTIONS, timed=False)
    assert not (tmp_path / "out").exists()


def test_a_directory_without_results_cannot_be_loaded(finished, tmp_path):
    with pytest.raises(ResultsError, match="holds no results"):
        Comparison.load(tmp_path)
    with pytest.raises(ResultsError, match="holds no results"):
        Comparison.load(finished[0] / "unpruned")
