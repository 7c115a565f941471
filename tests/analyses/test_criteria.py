"""The criteria side by side: scores, agreement, choices, what these retain, and costs."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

import tokenlens as tl
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.analyses.studies import (
    criteria,
    criteria_agreement,
    criteria_scores,
    criteria_stability,
)
from tokenlens.evaluation.capability import capability_of, measure
from tokenlens.evaluation.information.measure import information
from tokenlens.measures.overlap import region_scores
from tokenlens.methods.plan import plan
from tokenlens.probing.profiling import profile_samples
from tokenlens.samples.dataset import Samples
from tokenlens.samples.sample import Sample
from tokenlens.selection.criteria import CRITERIA

LAYERS, BUDGETS = 8, ("70%", "50%")


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tl.load(str(save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(8))))


@pytest.fixture(scope="module")
def samples(vlm, tmp_path_factory):
    """Eight questions; right is what the unpruned model said in six, and what some re-runs did."""
    rng = np.random.default_rng(0)
    asked = [
        Sample(
            id=str(index),
            image=Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)),
            question=f"where is {index} ?",
            task=("text", "count")[index % 2],
            boxes=() if index in (2, 5) else ((0, 0, 8 + index, 8),),
        )
        for index in range(8)
    ]
    arms = list(measure(vlm, asked, tmp_path_factory.mktemp("runs") / "asked").arms.values())
    found = []
    for index, sample in enumerate(asked):
        right = [index < 6, *(rng.random(LAYERS) < np.arange(1, LAYERS + 1) / LAYERS)]
        said = [arm.rows["prediction"].iloc[index] for arm in arms]
        answers = [text for text, counts in zip(said, right, strict=True) if counts]
        found.append(replace(sample, answers=tuple(answers)))
    return Samples(found, source="made up", split=None, name="made-up", hash="0")


@pytest.fixture(scope="module")
def measured(vlm, samples, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return profile_samples(vlm, samples, out / "profile"), measure(vlm, samples, out / "reruns")


@pytest.fixture(scope="module")
def choices(measured):
    profile, reruns = measured
    by = {**{name: name for name in CRITERIA}, "capability": capability_of(reruns, "made up")}
    return {
        budget: {name: plan(profile, criterion=one, budget=budget) for name, one in by.items()}
        for budget in BUDGETS
    }


@pytest.fixture(scope="module")
def table(vlm, samples, choices, tmp_path_factory):
    return criteria.compute(vlm, samples, choices, tmp_path_factory.mktemp("runs") / "criteria")


def test_agreement_is_spearman_over_the_layers_from_3(measured, choices):
    drawn = criteria_agreement.draw(*measured)
    table = criteria_agreement.compute(drawn).set_index(["criterion", "other"])
    scores = {
        name: [verdict.score for verdict in selection.verdicts]
        for name, selection in choices["70%"].items()
    }
    assert len(table) == 10
    for (one, other), row in table.iterrows():
        expected = spearmanr(scores[one][2:], scores[other][2:]).statistic
        assert row["spearman"] == pytest.approx(expected)
        assert -1 <= row["low"] <= row["high"] <= 1
    over_all = spearmanr(scores["region"], scores["mass"]).statistic
    assert table.loc[("region", "mass"), "spearman"] != pytest.approx(over_all)  # the control
    text = criteria_agreement.markdown(table.reset_index(), ("region", "capability"))
    assert len(text.splitlines()) == 3


def test_samples_without_a_region_count_for_capability_alone(measured, samples):
    profile, reruns = measured
    scores = criteria_agreement.sample_scores(profile, reruns)
    assert {task: values.shape for task, values in scores.items()} == {
        "text": (4, 5, LAYERS),
        "count": (4, 5, LAYERS),
    }
    for row in profile.rows():
        task, place = scores[row.task], int(row.id) // 2
        if int(row.id) in (2, 5):
            assert np.isnan(task[place, :4]).all()
        else:
            expected = region_scores(row.importance, row.region, metric="recall")
            np.testing.assert_array_equal(task[place, 0], expected)
        last = reruns.arms[f"layer {LAYERS}"].rows.set_index("id").loc[row.id, "score"]
        assert task[place, -1, -1] == last


def test_scores_and_figure_show_every_layer_and_what_was_chosen(choices):
    table = criteria_scores.compute(choices)
    assert len(table) == 5 * LAYERS
    for name in (*CRITERIA, "capability"):
        part = table[table["criterion"] == name].set_index("layer")
        for budget in BUDGETS:
            chosen = [layer for layer, row in part.iterrows() if budget in row["chosen"]]
            assert tuple(chosen) == choices[budget][name].layers
    lines = criteria_scores.markdown(table).splitlines()
    assert len(lines) == 2 + LAYERS
    stars = sum(line.count("\N{ASTERISK}") for line in lines)
    assert stars == sum(len(s.layers) for by in choices.values() for s in by.values())
    assert len(criteria_scores.plot(table).axes[0].lines) == 2 * 5


def test_choices_are_made_again_on_drawn_samples(measured, choices):
    drawn = criteria_agreement.draw(*measured)
    table = criteria_stability.compute(drawn, choices)
    assert table.groupby(["budget", "criterion"])["share"].sum().to_list() == pytest.approx(
        [1] * 10
    )
    assert table["layers"].nunique() > 1
    same = replace(drawn, draws=np.stack([drawn.scores] * 3))
    undrawn = criteria_stability.compute(same, choices)
    assert undrawn["share"].to_list() == [1.0] * 10
    for row in undrawn.itertuples():
        assert row.layers == ", ".join(map(str, choices[row.budget][row.criterion].layers))
    assert len(criteria_stability.markdown(table).splitlines()) == 2 + 10


def test_held_out_rows_and_leads_are_those_of_each_choice(table, choices):
    rows = table.set_index(["budget", "criterion", "task"])
    assert rows.loc[("", "unpruned", "all"), "score"] == 6 / 8
    for budget in BUDGETS:
        theirs = rows.loc[(budget, "capability", "all")]
        assert np.isnan(theirs["lead"])
        for name in CRITERIA:
            row = rows.loc[(budget, name, "all")]
            assert row["layers"] == ", ".join(map(str, choices[budget][name].layers))
            assert row["lead"] == pytest.approx(row["score"] - theirs["score"])
            assert row["lead_low"] <= row["lead"] <= row["lead_high"]
            if row["layers"] == theirs["layers"]:
                assert (row["lead_low"], row["lead_high"]) == (0, 0)
            share = float(budget.removesuffix("%")) / 100
            assert row["tokens"] == pytest.approx(share * 36, abs=1)
    lines = criteria.markdown(table).splitlines()
    different = {(b, s.layers) for b, by in choices.items() for s in by.values()}
    assert len(lines) == 2 + 1 + len(different)
    assert sum(line.count("average-precision") for line in lines) == 2
    assert len({line.count(" | ") for line in lines}) == 1


def test_agreement_is_scored_and_costed_and_not_drawn_again(vlm, samples, measured, choices):
    profile, reruns = measured
    agreed = information(vlm, samples, max_new_tokens=2).as_capability()
    both = {
        budget: {**choices[budget], "agreement": plan(profile, criterion=agreed, budget=budget)}
        for budget in BUDGETS
    }
    scores = criteria_scores.compute(both)
    assert (scores["criterion"] == "agreement").sum() == LAYERS
    drawn = criteria_stability.compute(criteria_agreement.draw(profile, reruns), both)
    assert "agreement" not in set(drawn["criterion"])
    costs = criteria.costs(reruns, ["agreement", "capability"]).set_index("criterion")
    assert costs.loc["agreement", "passes"] == costs.loc["capability", "passes"] == LAYERS + 1


def test_capability_costs_a_run_per_layer_and_the_others_one_pass(measured):
    _, reruns = measured
    table = criteria.costs(reruns).set_index("criterion")
    assert table["passes"].to_list() == [1, 1, 1, 1, LAYERS + 1]
    macs = [results.rows["macs"].mean() for results in reruns.arms.values()]
    assert table.loc["region", "macs"] == pytest.approx(macs[0])
    assert table.loc["capability", "macs"] == pytest.approx(macs[0] + sum(macs))
    assert len(criteria.costs_markdown(table.reset_index()).splitlines()) == 2 + 5


def test_the_command_says_what_is_wrong_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["criteria", "--task", "depe-text"])
    with pytest.raises(SystemExit) as end:
        criteria.main()
    assert end.value.code == 2
    assert "did you mean" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
