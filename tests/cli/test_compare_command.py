"""`tokenlens run --compare`: many methods at equal budgets by one command."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.errors import BudgetError, ProfileError, ScheduleError
from tokenlens.evaluation.comparing.arm_names import budgets_of
from tokenlens.evaluation.comparing.arms import comparison_arms, profile_for
from tokenlens.evaluation.comparing.comparison import UNPRUNED, Comparison
from tokenlens.evaluation.comparing.summary import OWN
from tokenlens.models.loading import load
from tokenlens.probing.profiling import profile_samples
from tokenlens.registry import METHODS
from tokenlens.samples.dataset import load_samples
from tokenlens.schedule import Schedule

BUDGETS = ("70%", "20%")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(6))


@pytest.fixture(scope="module")
def vlm(model):
    return load(str(model))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four questions with boxes, two of them to be answered by one."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(4):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(
            folder / f"{index}.png"
        )
        rows.append(
            {
                "id": f"s{index}",
                "image": f"{index}.png",
                "question": "where is the red circle ?",
                "answer": "red",
                "task": ("localisation", "text")[index % 2],
                "boxes": [[0, 0, 8, 8]],
            }
        )
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def samples(data):
    return load_samples(data, "held-out")


def compare(command, model, data, *options):
    return command(
        "run", "--model", model, "--data", data, "--max-new-tokens", 2, "--compare", *options
    )


def test_every_method_is_in_the_table_of_every_budget_or_left_out_with_its_reason(
    command, model, data, tmp_path
):
    ended = compare(command, model, data, "all", "--budget", ",".join(BUDGETS), "--out", "out")
    assert ended.code == 0, ended.err
    comparison = Comparison.load(tmp_path / "out")
    assert next(iter(comparison.arms)) == UNPRUNED
    plan = comparison.plan
    for budget in ("70 %", "20 %"):
        assert f"Budget: {budget}" in ended.out
        left_out = plan.left_out.get(budget, {})
        assert {*plan.budgets[budget], *left_out} == set(METHODS)
        for method, reason in left_out.items():
            assert f"- Left out: {method}: {reason}." in ended.out
    assert "out of reach" in plan.left_out["20 %"]["feather"]
    assert "feather" in plan.budgets["70 %"]
    assert "pdrop" in plan.budgets["20 %"]
    assert "pdrop: layers 1, 3, 4, those published for small budgets" in ended.out
    assert "small budgets" not in plan.layers["70 %"]
    table = pd.read_csv(tmp_path / "out" / "table.csv")
    met = table[(table["column"] == "visual tokens per layer") & (table["method"] != UNPRUNED)]
    assert met.loc[met["budget"] == "70 %", "value"].to_numpy() == pytest.approx(25.2, abs=0.7)
    assert "**" not in (tmp_path / "out" / "table.md").read_text() or table["best"].any()
    assert (tmp_path / "out" / "table.tex").read_text().count(r"\begin{tabular}") == 2
    assert "excludes zero" in ended.out
    assert "the published relative depths" in ended.out

    ended = command("report", "out", "--pictures", 1)
    assert ended.code == 0, ended.err


def test_a_method_added_later_goes_into_the_same_folder(command, model, data, tmp_path):
    for chosen in ("random", "random,stride"):
        ended = compare(command, model, data, chosen, "--budget", "70%")
        assert ended.code == 0, ended.err
    [folder] = tmp_path.glob("tokenlens-out/*/compare-*")
    comparison = Comparison.load(folder)
    assert list(comparison.arms) == [UNPRUNED, "random 70 %", "stride 70 %"]
    assert set(comparison.timing.arms) == set(comparison.arms)
    assert "Next: tokenlens report" in ended.out


def test_only_the_tasks_asked_for(command, model, data):
    ended = compare(command, model, data, "random", "--budget", "70%", "--task", "text")
    assert ended.code == 0, ended.err
    assert "2 samples of" in ended.out
    assert "localisation" not in ended.out


def test_another_schedule_in_the_same_file_is_not_refused(command, model, data, vlm, tmp_path):
    for budget in (0.7, 0.6, 0.7):
        Schedule.preset("random", vlm, budget=budget, n_visual=36).save(tmp_path / "out.json")
        ended = command("run", "--data", data, "--max-new-tokens", 2)
        assert ended.code == 0, ended.err
    folders = sorted(path.name for path in tmp_path.glob("tokenlens-out/*/results-*"))
    assert len(folders) == 2
    assert folders[0] == "results-out"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--compare", "fastvv"), "fastv"),
        (("--compare", "fastv", "--budget", "lots"), "lots"),
        (("--compare", "pdrop", "--budget", "1%"), "out of reach"),
        (("--compare", "none.json"), "none.json"),
        (("--compare", "fastv", "--profile", "nowhere"), "holds no profile"),
    ],
)
def test_what_cannot_be_compared_is_one_line(command, model, data, tmp_path, options, said):
    ended = command("run", "--model", model, "--data", data, *options)
    assert ended.code == 2
    assert said in ended.line
    assert not (tmp_path / "tokenlens-out").exists()


@pytest.mark.parametrize(
    "options", [("--budget", "33%"), ("--compare", "fastv", "--schedule", "out.json")]
)
def test_options_of_the_two_ways_to_run_do_not_mix(command, options):
    ended = command("run", *options)
    assert ended.code == 2
    assert "--compare" in ended.err


def test_a_schedule_file_joins_the_budget_it_meets_or_stands_apart(vlm, samples, tmp_path):
    for name, budget in (("near", 0.7), ("far", 0.55)):
        Schedule.preset("random", vlm, budget=budget, n_visual=36).save(tmp_path / f"{name}.json")
    names = ["stride", str(tmp_path / "near.json"), str(tmp_path / "far.json")]
    arms = comparison_arms(vlm, names, budgets_of("70%,40%"), samples)
    assert arms.budgets == {
        "70 %": {"stride": "stride 70 %", "near": "near 70 %"},
        "40 %": {"stride": "stride 40 %"},
        OWN: {"far": "far"},
    }
    (tmp_path / "stride.json").write_text((tmp_path / "near.json").read_text())
    with pytest.raises(ScheduleError, match="rename the file"):
        comparison_arms(vlm, ["stride", str(tmp_path / "stride.json")], [], samples)


def test_a_schedule_file_joins_a_budget_in_macs(vlm, samples, tmp_path):
    for name, budget in (("near", "70% MACs"), ("far", "60% MACs")):
        Schedule.preset("random", vlm, budget=budget).save(tmp_path / f"{name}.json")
    names = ["stride", str(tmp_path / "near.json"), str(tmp_path / "far.json")]
    arms = comparison_arms(vlm, names, budgets_of("70% MACs"), samples)
    assert arms.budgets == {
        "70 % MACs": {"stride": "stride 70 % MACs", "near": "near 70 % MACs"},
        OWN: {"far": "far"},
    }


def test_a_profile_of_this_model_chooses_the_layers(vlm, samples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert profile_for(vlm, None) is None
    folder = tmp_path / "tokenlens-out" / "any" / "profile-here"
    profile_samples(vlm, samples, folder)
    profile = profile_for(vlm, None)
    assert profile.directory.resolve() == folder
    arms = comparison_arms(vlm, ["swiftvlm", "drop", "fastv"], budgets_of("90%"), samples)
    assert "published relative depths" in arms.layers["90 %"]
    chosen = comparison_arms(
        vlm, ["swiftvlm", "drop", "fastv"], budgets_of("90%"), samples, profile=profile
    )
    assert f"chosen from {profile.directory}" in chosen.layers["90 %"]
    by_macs = comparison_arms(
        vlm, ["swiftvlm", "fastv"], budgets_of("95% MACs"), samples, profile=profile
    )
    assert "chosen from" in by_macs.layers["95 % MACs"]
    assert {plan.budget.macs for plan in by_macs.schedules.values()} == {0.95}
    layers = {
        name: [stage.score_layer for stage in chosen.schedules[f"{name} 90 %"].stages]
        for name in ("swiftvlm", "drop", "fastv")
    }
    assert layers["swiftvlm"] == layers["drop"]
    assert ", ".join(map(str, layers["drop"])) in chosen.layers["90 %"]
    assert layers["fastv"] == [2]
    other = load(str(save_model_directory(tmp_path / "other", tiny_qwen2_vl(6, seed=1))))
    assert profile_for(other, None) is None
    with pytest.raises(ProfileError, match="the profile of"):
        profile_for(other, folder)


def test_an_engine_refusal_leaves_out_one_method_and_nothing_else(vlm, samples, monkeypatch):
    import tokenlens.evaluation.running.generation as generation
    from tokenlens.errors import PruningError

    real = generation.answer

    def refusing(vlm, batch, schedule, **options):
        if schedule.method == "random":
            raise PruningError("not with this model")
        return real(vlm, batch, schedule, **options)

    monkeypatch.setattr(generation, "answer", refusing)
    arms = comparison_arms(vlm, ["random", "stride"], budgets_of("70%"), samples)
    assert arms.left_out == {"70 %": {"random": "not with this model"}}
    assert list(arms.schedules) == ["stride 70 %"]
    with pytest.raises(BudgetError, match="of random at 70 %: not with this model"):
        comparison_arms(vlm, ["random"], budgets_of("70%"), samples)
