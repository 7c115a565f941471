"""Samples without answers: what is measured instead of a score, wherever results are shown."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import tokenlens as tl
from tests.conftest import Ended
from tests.support.benchmark_files import picture, write_lines
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.analyses import knock_out, retained
from tokenlens.cli.run import _shown_columns
from tokenlens.evaluation.capability import capability_of, measure
from tokenlens.evaluation.comparing.compare import compare
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.evaluation.comparing.table_files import markdown
from tokenlens.evaluation.comparing.tables import budget_tables
from tokenlens.evaluation.metrics.agreement import agreement, scoring_note
from tokenlens.models.loading import load
from tokenlens.models.vlm import VLM
from tokenlens.reports.result_sections import headline_stats
from tokenlens.schedule import Schedule


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> VLM:
    return load(str(save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(6))))


def samples(answered: int = 0) -> list[tl.Sample]:
    """Six questions of two tasks, of which the first few have an answer."""
    return [
        tl.Sample(
            id=f"s{number}",
            image=Image.new("RGB", (24, 24), (40 * number, 200, 90)),
            question="what colour ?",
            answers=("red",) if number < answered else (),
            task=("text", "count")[number % 2],
        )
        for number in range(6)
    ]


def drop(vlm: VLM) -> Schedule:
    return Schedule.preset("random", vlm, budget=0.3, layers=[1], n_visual=36)


def compared(vlm: VLM, out: Path, answered: int) -> Comparison:
    given = samples(answered)
    return compare(vlm, given, {"random": drop(vlm)}, out, max_new_tokens=4, timed=False)


def test_without_answers_agreement_is_measured(vlm: VLM, tmp_path: Path) -> None:
    comparison = compared(vlm, tmp_path, 0)
    whole, pruned = (comparison.arms[arm].rows["prediction"] for arm in ("unpruned", "random"))
    expected = float((whole == pruned).mean())
    table = comparison.table().set_index(["task", "arm"])
    assert table.loc[("all", "unpruned"), "agreement"] == 1
    assert table.loc[("all", "random"), "agreement"] == pytest.approx(expected)
    means = [table.loc[(task, "random"), "agreement"] for task in ("text", "count")]
    assert table.loc[("macro", "random"), "agreement"] == pytest.approx(sum(means) / 2)
    assert table["score"].isna().all()
    rows = json.loads((tmp_path / "summary.json").read_text())["table"]
    assert all(row["score"] is None and 0 <= row["agreement"] <= 1 for row in rows)
    text = markdown(budget_tables(comparison))
    assert "agreement (6)" in text
    assert "share of answers that are the unpruned model's own" in text
    assert headline_stats(comparison, "random")[0].label == "agreement"
    assert set(retained.compute(comparison)["quality"]) == {"agreement"}


def test_some_with_and_some_without(vlm: VLM, tmp_path: Path) -> None:
    comparison = compared(vlm, tmp_path, 2)
    table = comparison.table().set_index(["task", "arm"])
    assert table.loc[("all", "random"), "unscored"] == 4
    assert table.loc[("all", "random"), "score"] == 0
    assert table.loc[("all", "unpruned"), "agreement"] == 1
    note = scoring_note(comparison.arms["unpruned"].rows)
    shown = _shown_columns(comparison.arms["unpruned"].rows)
    assert list(shown) == ["score", "retained", "95 % interval", "agreement", "its interval"]
    assert note.startswith("4 of 6 samples are not scored: scores are of the others")
    assert set(retained.compute(comparison)["quality"]) == {"score retained"}


def test_a_figure_counts_scored_samples_and_says_why_a_task_has_none(
    vlm: VLM, tmp_path: Path
) -> None:
    frame = retained.compute(compared(vlm, tmp_path, 1))
    counts = frame[frame["arm"] == "random"].set_index("task")["samples"]
    assert (counts["text"], counts["count"], counts["all"]) == (1, 0, 1)
    panels = {axes.get_title(loc="left"): axes for axes in retained.plot(frame).axes}
    assert [text.get_text() for text in panels["count (0)"].texts] == ["no sample\nis scored"]
    assert [text.get_text() for text in panels["text (1)"].texts] == [
        "the unpruned\nmodel scores 0"
    ]


def test_with_answers_nothing_is_said(vlm: VLM, tmp_path: Path) -> None:
    comparison = compared(vlm, tmp_path, 6)
    assert scoring_note(comparison.arms["unpruned"].rows) == ""
    assert "agreement" not in markdown(budget_tables(comparison))


def test_one_run_agrees_with_the_unpruned_model(vlm: VLM) -> None:
    given = samples()
    results = tl.evaluate(vlm, given, drop(vlm), max_new_tokens=4)
    whole = tl.evaluate(vlm, given, max_new_tokens=4)
    expected = agreement(results.rows["prediction"], whole.rows["prediction"]).mean()
    assert results.metrics["agreement"]["all"] == pytest.approx(expected)
    assert whole.metrics["agreement"] == {"text": 1, "count": 1, "all": 1, "macro": 1}
    assert results.metrics["score"]["all"] is None
    answered = tl.evaluate(vlm, samples(6), drop(vlm), max_new_tokens=4)
    assert answered.metrics["agreement"] is None


def test_capability_takes_the_unpruned_answers_as_right(vlm: VLM, tmp_path: Path) -> None:
    given = [replace(one, answers=("red",)) if one.task == "text" else one for one in samples()]
    found = capability_of(measure(vlm, given, tmp_path), "here")
    assert found.unpruned["count"] == 1
    assert found.scores["count"].shape == (3, 6)
    assert "text" not in found.unpruned  # has answers, and the model gets none right
    assert found.left_out == ("text",)


def test_knock_out_too(vlm: VLM, tmp_path: Path) -> None:
    table = knock_out.compute(vlm, samples(), tmp_path, layers=[3])
    assert (table["unpruned"] == 1).all()
    assert table["score"].between(0, 1).all()


def test_wording_counts_for_nothing() -> None:
    import pandas as pd

    said, meant = pd.Series(["Red.", " two ", "a cup"]), pd.Series(["red", "two", "cup"])
    assert agreement(said, meant).to_list() == [1, 1, 0]


@pytest.mark.slow
def test_through_the_command_line(command: Callable[..., Ended], tmp_path: Path) -> None:
    lines = []
    for number in range(4):
        image = picture(tmp_path / f"p{number}.png", (56, 56))
        row = {"id": f"s{number}", "image": str(image), "question": "where is it ?"}
        lines.append({**row, "boxes": [[0, 0, 28, 28]]})
    data = write_lines(tmp_path / "data.jsonl", lines)
    for arguments in (("profile", "--data", data), ("select-layers",), ("run",), ("report",)):
        ended = command(*arguments)
        assert ended.code == 0, ended.err
        if arguments[0] == "run":
            assert "agreement" in ended.out.lower()
            assert "retained" not in ended.out
            assert "No sample is scored" in ended.out
    page = next(tmp_path.rglob("report.html")).read_text(encoding="utf-8")
    assert ">agreement</th>" in page
