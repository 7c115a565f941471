"""The table of methods at equal budgets."""

import pytest

from tests.support.builders import counted_samples, save_model_directory, tiny_qwen2_vl
from tokenlens.analyses.studies.baselines import (
    METHODS,
    compute,
    differences_markdown,
    markdown,
    plot,
)
from tokenlens.errors import BudgetError
from tokenlens.models.loading import load
from tokenlens.selection.solve import parse_budget


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return load(str(save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(8))))


@pytest.fixture(scope="module")
def samples():
    return counted_samples(4)


@pytest.fixture(scope="module")
def table(vlm, samples, tmp_path_factory):
    return compute(
        vlm,
        samples,
        {parse_budget("60%"): [3, 5, 7], parse_budget("22 tokens"): [4, 6]},
        tmp_path_factory.mktemp("runs") / "baselines",
        n_visual=36,
    )


def test_every_method_meets_every_budget_and_the_unpruned_model_runs_once(table):
    whole = table[table["task"] == "all"].set_index(["budget", "method"])
    assert whole.index.to_list() == [
        ("", "unpruned"),
        *((budget, method) for budget in ("60 %", "22 tokens") for method in METHODS),
    ]
    assert whole.loc["60 %", "tokens"].to_list() == pytest.approx([0.6 * 36] * 5, abs=1)
    assert whole.loc["22 tokens", "tokens"].to_list() == pytest.approx([22] * 5, abs=1)
    assert (whole["macs"].iloc[1:] < whole["macs"].iloc[0]).all()
    assert whole.loc[("60 %", "random"), "scoring_macs"] == 0


def test_the_markdown_has_a_row_per_budget_and_method_and_a_column_per_task(table):
    lines = [line.split("|")[1:-1] for line in markdown(table).splitlines()]
    lines = [[cell.strip() for cell in line] for line in lines]
    assert {len(line) for line in lines} == {7}
    assert lines[0][-3:] == ["text (2)", "count (2)", "all (4)"]
    assert len(lines) == 2 + 1 + 2 * len(METHODS)
    assert lines[2][:2] == ["", "unpruned (scores)"]
    assert lines[3][0] == "60 %"
    assert lines[3][1] == f"{METHODS['swiftvlm']} (3, 5, 7)"
    assert [line[1].rpartition("(")[2] for line in lines[8:]] == [*["4, 6)"] * 3, *["2)"] * 2]


def test_leads_are_paired_differences_of_the_scores(table):
    rows = table.set_index(["budget", "method", "task"])
    for budget in ("60 %", "22 tokens"):
        for method in set(METHODS) - {"swiftvlm"}:
            for task in ("text", "count", "all"):
                lead = rows.loc[(budget, method, task)]
                ours = rows.loc[(budget, "swiftvlm", task), "score"]
                assert lead["lead"] == pytest.approx(ours - lead["score"])
                assert lead["lead_low"] <= lead["lead"] <= lead["lead_high"]
    assert rows.loc[("60 %", "swiftvlm", "all")][["lead", "lead_low", "lead_high"]].isna().all()
    lines = differences_markdown(table).splitlines()
    assert len(lines) == 2 + 2 * (len(METHODS) - 1)
    assert len({line.count("|") for line in lines}) == 1


def test_the_figure_has_a_panel_per_budget_and_task(table):
    figure = plot(table)
    assert len(figure.axes) == 2 * 3
    assert [axes.get_title("left") for axes in figure.axes[:3]] == ["text", "count", "all"]


def test_a_budget_out_of_reach_is_said_before_anything_is_run(vlm, samples, tmp_path):
    with pytest.raises(BudgetError, match="out of reach"):
        compute(vlm, samples, {parse_budget("10%"): [3, 5, 7]}, tmp_path / "out", n_visual=36)
    assert not (tmp_path / "out").exists()
