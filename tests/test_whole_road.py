"""The public functions from a profile to a report, each against the parts it stands for."""

from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedConfig

import tokenlens as tl
from tests.support import synthetic
from tokenlens.errors import BudgetError, ModelError, ScheduleError


@pytest.fixture(scope="module")
def vlm() -> tl.VLM:
    return tl.load("tiny-qwen2-vl")


@pytest.fixture(scope="module")
def samples() -> list[tl.Sample]:
    return list(tl.load_samples("scenes", split="held-out", limit=2))


def test_a_forecast_is_what_a_run_reports(vlm: tl.VLM, samples: list[tl.Sample]) -> None:
    schedule = tl.Schedule.preset("pdrop", vlm, budget="40%")
    inputs = vlm.prepare(samples[0].open_image(), samples[0].question)
    n_visual = len(vlm.layout(inputs)[0].positions)
    n_text = inputs["input_ids"].shape[1] - n_visual
    said = tl.forecast(schedule, vlm, n_visual, n_text)
    with tl.prune(vlm, schedule) as trace:
        vlm.model(**inputs, logits_to_keep=1)
    assert [said.macs.total] == trace.cost.total_macs.tolist()
    assert [said.unpruned.macs.total] == trace.cost.unpruned.total_macs.tolist()
    assert [said.kv_bytes] == trace.cost.kv_bytes.tolist()
    assert [list(said.tokens_per_layer)] == trace.tokens_per_layer.tolist()


def test_a_forecast_needs_no_more_than_a_configuration(vlm: tl.VLM) -> None:
    schedule = tl.Schedule.preset("fastv", vlm, budget="40%")
    by_model = tl.forecast(schedule, tl.VLM.wrap(vlm.model, None), 100, 20)
    by_config = tl.forecast(schedule, vlm.model.config, 100, 20)
    assert by_config.macs == by_model.macs
    assert by_config.unpruned.tokens_per_layer == (100,) * vlm.layers
    smaller = tl.Schedule.preset("downsample", vlm, budget="50%")
    assert tl.forecast(smaller, vlm, 100, 20).tokens_per_layer == (50,) * vlm.layers


def test_what_a_forecast_cannot_count_it_says(vlm: tl.VLM) -> None:
    schedule = tl.Schedule.preset("fastv", vlm, budget="40%")
    for counts, name in (((0, 20), "n_visual"), ((100, 0), "n_text"), ((1.5, 20), "n_visual")):
        with pytest.raises(BudgetError, match=f"{name}: got"):
            tl.forecast(schedule, vlm, *counts)
    other = schedule.replace(model={"architecture": "A", "layers": vlm.layers + 1})
    with pytest.raises(ScheduleError, match=r"model\.layers: the schedule is for"):
        tl.forecast(other, vlm, 100, 20)
    with pytest.raises(ScheduleError, match="make one with"):
        tl.forecast("fastv", vlm, 100, 20)
    with pytest.raises(ModelError, match="expected a tokenlens"):
        tl.forecast(schedule, "tiny-qwen2-vl", 100, 20)
    with pytest.raises(ModelError, match="no configuration of a text decoder"):
        tl.forecast(schedule, PreTrainedConfig(), 100, 20)


def test_methods_meet_budgets_on_the_same_samples(vlm: tl.VLM, samples: list[tl.Sample]) -> None:
    comparison = tl.compare(
        vlm, samples, ["fastv", "random"], ["40%", tl.Budget(0.6, "ratio")], timed=False
    )
    budgets = ("40 %", "60 %")
    arms = [f"{method} {budget}" for budget in budgets for method in ("fastv", "random")]
    assert list(comparison.arms) == ["unpruned", *arms]
    assert comparison.plan is not None
    assert list(comparison.plan.budgets) == ["40 %", "60 %"]
    alone = tl.evaluate(vlm, samples, tl.Schedule.preset("fastv", vlm, budget="40%"))
    rows = comparison.arms["fastv 40 %"].rows
    assert rows["prediction"].tolist() == alone.rows["prediction"].tolist()
    one = tl.compare(vlm, samples[:1], "fastv", "40%", timed=False)
    assert list(one.arms) == ["unpruned", "fastv 40 %"]
    for methods, budget, error in (([], "40%", ScheduleError), ("fastv", [], BudgetError)):
        with pytest.raises(error, match="got none"):
            tl.compare(vlm, samples, methods, budget)


def test_a_plan_and_a_report_of_directories(tmp_path: Path) -> None:
    samples = [synthetic.sample(index, tmp_path) for index in range(8)]
    profile = synthetic.write_profile(tmp_path / "profile", samples)
    selection = tl.plan(tl.Profile(profile), stages=2, criterion="region", budget="60%")
    assert len(selection.layers) == len(selection.schedule.stages)
    entering = selection.schedule.tokens_entering(selection.n_visual)
    assert np.mean(entering) == pytest.approx(0.6 * selection.n_visual, abs=1)
    files = tl.report([profile], out=tmp_path / "page", pictures=0)
    assert files.html == tmp_path / "page" / "report.html"
    assert files.html.is_file()
    assert issubclass(ScheduleError, tl.TokenlensError)
