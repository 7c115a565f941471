"""The steps of the ablation differ by what they are called, and meet the same budget."""

import numpy as np
import pytest

from tests.support.builders import counted_samples, save_model_directory, tiny_qwen2_vl
from tokenlens.analyses.studies.ablation import PAIRS, STEPS, compute, markdown, plot, schedules
from tokenlens.errors import BudgetError
from tokenlens.evaluation.comparing.comparison import UNPRUNED, Comparison
from tokenlens.methods.pdrop import early_layers, pyramid_layers
from tokenlens.models.loading import load
from tokenlens.schedule import ModelRef
from tokenlens.selection.solve import parse_budget

MODEL = ModelRef(architecture="Qwen2VLForConditionalGeneration", layers=24)
CHOSEN = [4, 9, 15]


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return load(str(save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(8))))


@pytest.fixture(scope="module")
def samples():
    return counted_samples(4)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs") / "ablation"


@pytest.fixture(scope="module")
def table(vlm, samples, runs):
    layers = {parse_budget("60%"): [3, 5, 7], parse_budget("22 tokens"): [2, 4, 6]}
    return compute(vlm, samples, layers, runs, n_visual=36)


@pytest.mark.parametrize("budget", ["33%", "45%"])
def test_every_step_meets_the_budget(budget):
    budget = parse_budget(budget)
    found = schedules(MODEL, budget, CHOSEN, 144)
    assert list(found) == list(STEPS)
    for schedule in found.values():
        assert np.mean(schedule.tokens_entering(144, 24)) == pytest.approx(
            budget.tokens(144), abs=0.5
        )


def test_each_step_changes_one_thing():
    found = schedules(MODEL, parse_budget("33%"), CHOSEN, 144)
    made = {
        step: [
            (stage.score_layer, stage.when, stage.disposal, stage.merge, stage.positions)
            for stage in schedule.stages
        ]
        for step, schedule in found.items()
    }
    places = [(4, "after"), (9, "before"), (15, "before")]
    last = (15, "before", "drop", 0, "keep")
    assert made["pdrop"] == [(n, "before", "drop", 0, "keep") for n in pyramid_layers(24)]
    assert made["selection"] == [(*place, "drop", 0, "keep") for place in places]
    assert made["merging"] == [*((*p, "merge", 0.1, "keep") for p in places[:2]), last]
    assert made["bypass"] == [*((*p, "bypass", 0.1, "keep") for p in places[:2]), last]
    assert made["unmerged"] == [*((*p, "bypass", 0, "keep") for p in places[:2]), last]


def test_pdrop_takes_earlier_layers_only_where_its_own_cannot_reach_the_budget():
    def scored(budget):
        schedule = schedules(MODEL, parse_budget(budget), [3, 9, 15], 144)["pdrop"]
        return [stage.score_layer for stage in schedule.stages]

    assert scored("33%") == pyramid_layers(24) == [7, 13, 19]
    assert scored("22%") == early_layers(24) == [3, 7, 13]
    with pytest.raises(BudgetError, match="before 3"):
        scored("5%")


def test_steps_are_run_at_equal_budgets_and_led_by_the_one_before(table, runs):
    whole = table[table["task"] == "all"].set_index(["budget", "method"])
    assert whole.index.to_list() == [
        ("", UNPRUNED),
        *((budget, step) for budget in ("60 %", "22 tokens") for step in STEPS),
    ]
    assert whole.loc["60 %", "tokens"].to_list() == pytest.approx([0.6 * 36] * 5, abs=1)
    rows = Comparison.load(runs).arms
    for budget in ("60 %", "22 tokens"):
        assert np.isnan(whole.loc[(budget, "pdrop"), "lead"])
        for step, (_, before) in PAIRS.items():
            ours, theirs = (rows[f"{name} {budget}"].rows["score"] for name in (step, before))
            assert whole.loc[(budget, step), "lead"] == pytest.approx((ours - theirs).mean())
    assert whole.loc[("60 %", "merging"), "merging_macs"] > 0
    assert whole.loc[("60 %", "unmerged"), "merging_macs"] == 0


def test_markdown_has_both_tables_and_the_figure_a_panel_per_budget_and_task(table):
    retained, leads = (part.splitlines() for part in markdown(table).split("\n\n"))
    assert len(retained) == 2 + 1 + 2 * len(STEPS)
    assert len(leads) == 2 + 2 * (len(STEPS) - 1)
    assert "PDrop with kept positions (3, 5, 7)" in retained[3]
    assert leads[2].split("|")[2].strip() == STEPS["selection"]
    assert len(plot(table).axes) == 2 * 3
