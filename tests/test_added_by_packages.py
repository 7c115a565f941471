"""Scorers, disposals and methods of other packages, found by entry point and used by name."""

import sys
import tomllib
from pathlib import Path

import pytest
import torch

import tokenlens as tl
from tests.support.engine_support import batch, model64, schedule, stage
from tokenlens.errors import ScheduleError
from tokenlens.evaluation.running.cache_key import _packages
from tokenlens.methods import find_method
from tokenlens.pruning.scoring import DirectScoring
from tokenlens.registry import DISPOSALS, IMPORTANCES, METHODS, SCORERS, importance_unit
from tokenlens.schedule import Schedule, Stage
from tokenlens.schedule.stage_words import rest_words

MODULE = """
import torch
from tokenlens.pruning.disposal import Disposal, Disposed
from tokenlens.pruning.disposals.drop import drop
from tokenlens.methods.fastv import single_drop
from tokenlens.methods.method import Method
from tokenlens.pruning.scoring import DirectScoring, RowScoring
from tokenlens.probing.importances.importance import RowImportance
from tokenlens.schedule import Scorer, Stage

def late(prompt, tokens, turn, scorer):
    return tokens.slots.index.double()

def second_to_last(prompt, embeddings):
    rows = torch.zeros_like(prompt.attended)
    rows[:, prompt.end - 2] = True
    return rows

LATE = DirectScoring(late, summary="the later the better")
SECOND = RowScoring(second_to_last, summary="the row before the last")
GONE = Disposal(drop, merged=lambda merge, rest: 0, later="kept", settable=False, summary="gone")
LATEST = Method(
    name="latest",
    summary="keep the end of the picture",
    source="No publication.",
    own_layers=lambda layers: [0],
    stages=lambda layers: [
        Stage(score_layer=layer, when="after", keep=1.0, disposal="gone") for layer in layers
    ],
    scorer=Scorer(query="late"),
)
DOUBLE = RowImportance(
    lambda call, sample, positions: torch.full((call.query.shape[1], len(positions)), 2.0),
    summary="attention twice", unit="share, doubled", source="No publication.",
)
NONE_OF_THESE = 3
"""
ENTRIES = """
[tokenlens.scorers]
late = extra_pruning:LATE
second = extra_pruning:SECOND
broken = extra_pruning:MISSING
last = extra_pruning:LATE

[tokenlens.disposals]
gone = extra_pruning:GONE
broken = no_such_module_here:GONE

[tokenlens.importances]
double = extra_pruning:DOUBLE
broken = extra_pruning:NONE_OF_THESE

[tokenlens.methods]
latest = extra_pruning:LATEST
broken = extra_pruning:NONE_OF_THESE
"""


def forget():
    """What was found of other packages is looked for again."""
    for registry in (SCORERS, DISPOSALS, METHODS, IMPORTANCES):
        vars(registry).pop("_added", None)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A distribution that is installed for one test."""
    place = tmp_path / "site"
    info = place / "extra_pruning-1.0.dist-info"
    info.mkdir(parents=True)
    (place / "extra_pruning.py").write_text(MODULE, encoding="utf-8")
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: extra-pruning\nVersion: 1.0\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(ENTRIES, encoding="utf-8")
    monkeypatch.syspath_prepend(str(place))
    forget()
    yield
    sys.modules.pop("extra_pruning", None)
    monkeypatch.undo()
    forget()


@pytest.mark.usefixtures("package")
def test_names_of_another_package_run_through_the_engine():
    model = model64()
    inputs = batch(model)
    plan = Schedule.preset("latest", model, budget=4, n_visual=12)
    assert plan.scorer.query == "late"
    assert [at.disposal for at in plan.stages] == ["gone"]
    assert Schedule(**plan.as_json()) == plan
    with torch.no_grad(), tl.prune(model, plan) as trace:
        model(**inputs)
    first = trace.stages[0]
    for selected, candidates in zip(first.selected, first.candidates, strict=True):
        assert torch.equal(selected, candidates[-len(selected) :])
        assert len(selected) < len(candidates)
    assert trace.tokens_per_layer[0].tolist() == plan.tokens_entering(12, 6) == [4] * 6
    plan = schedule(stage(2, "after", 0.5, "gone"), query="second")
    with torch.no_grad(), tl.prune(model, plan) as trace:
        model(**inputs)
    assert trace.tokens_per_layer[0].tolist() == plan.tokens_entering(12, 6)


@pytest.mark.usefixtures("package")
def test_an_importance_of_another_package_is_probed_by_its_name():
    model = model64()
    inputs = batch(model)
    with torch.no_grad():
        with tl.probe(model) as attention:
            model(**inputs)
        with tl.probe(model, importance="double") as double:
            model(**inputs)
    for one, other in zip(attention.importance, double.importance, strict=True):
        torch.testing.assert_close(other, 2 * one)
    assert importance_unit("double") == "share, doubled"
    with (
        pytest.raises(ScheduleError, match=r"importance 'broken' .*expected a Importance"),
        tl.probe(model, importance="broken"),
    ):
        pass


@pytest.mark.usefixtures("package")
def test_the_command_lists_them_and_says_what_is_broken(command):
    ended = command("methods")
    assert ended.code == 0, ended.err
    words = " ".join(ended.out.split())
    for expected in (
        *("latest keep the end of the picture No publication.", "late the later the better"),
        *("gone gone", "second the row before the last", "last the row of the last prompt token"),
        "scorer 'broken' of the entry point 'extra_pruning:MISSING' cannot be loaded:",
        "disposal 'broken' of the entry point 'no_such_module_here:GONE' cannot be loaded:",
        "method 'broken' of the entry point 'extra_pruning:NONE_OF_THESE' is a int, "
        "expected a Method",
    ):
        assert expected in words
    for registry in (SCORERS, DISPOSALS, METHODS, IMPORTANCES):
        assert all(name in words for name in registry)


@pytest.mark.usefixtures("package")
def test_a_broken_one_is_one_line_where_it_is_used_and_no_one_elses_trouble():
    model = model64()
    with pytest.raises(ScheduleError, match="disposal 'broken' of the entry point"):
        schedule(stage(2, "after", 0.5, "broken"))
    with pytest.raises(ScheduleError, match="method 'broken' of the entry point"):
        find_method("broken")
    plan = schedule(stage(2, "after", 0.5), query="broken")
    with pytest.raises(ScheduleError, match=r"scorer 'broken' .*; mend its package") as caught:
        tl.prune(model, plan).__enter__()
    assert "\n" not in str(caught.value)
    with torch.no_grad(), tl.prune(model, schedule(stage(2, "after", 0.5))):
        model(**batch(model))


@pytest.mark.usefixtures("package")
def test_what_tokenlens_has_stays_its_own_and_near_names_are_offered():
    assert SCORERS["last"].summary == "the row of the last prompt token"
    assert len(SCORERS) == len(set(SCORERS))
    for content, near in (
        (lambda: schedule(stage(2, "after", 0.5), query="lates"), "did you mean 'late'"),
        (lambda: schedule(stage(2, "after", 0.5, "gon")), "did you mean 'gone'"),
        (lambda: find_method("latst"), "did you mean 'latest'"),
    ):
        with pytest.raises(ScheduleError, match=near):
            content()


@pytest.mark.usefixtures("package")
def test_a_report_words_what_they_do():
    at = {"score_layer": 2, "when": "after", "keep": 0.5}
    assert rest_words(Stage(**at, disposal="gone")) == "gone"


def test_without_the_package_the_names_are_unknown():
    assert "late" not in SCORERS
    with pytest.raises(ScheduleError, match="got 'late', expected one of last"):
        schedule(stage(2, "after", 0.5), query="late")


def test_every_own_one_has_a_line_for_the_user():
    for registry in (SCORERS, DISPOSALS, METHODS):
        for name in registry:
            assert registry[name].summary, name


def test_every_package_is_in_the_wheel():
    """The list in pyproject.toml is by hand: a folder left out is missing once installed."""
    root = Path(tl.__file__).parents[1]
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {
        ".".join(found.parent.relative_to(root).parts)
        for found in (root / "tokenlens").rglob("__init__.py")
    }
    assert there <= set(listed)


@pytest.mark.usefixtures("package")
def test_answers_are_told_apart_by_the_package_that_added_what_is_used():
    assert SCORERS.package("late") == DISPOSALS.package("gone") == "extra-pruning 1.0"
    assert SCORERS.package("last") is None  # tokenlens's own of that name
    assert _packages(schedule(stage(0, "after", 0.5, "gone"), query="late")) == [
        "extra-pruning 1.0"
    ]
    assert _packages(schedule(stage(2, "after", 0.5))) == _packages(None) == []


def test_a_name_of_this_process_alone_runs_and_is_no_other_runs_answer(monkeypatch):
    monkeypatch.setattr(SCORERS, "_session", {})
    later = DirectScoring(lambda prompt, tokens, context, scorer: tokens.slots.index.double())
    SCORERS.add("later", later)
    assert "later" in SCORERS
    assert list(SCORERS).count("later") == 1
    model = model64()
    plan = schedule(stage(2, "after", 4, "drop"), query="later")
    with torch.no_grad(), tl.prune(model, plan) as trace:
        model(**batch(model))
    first = trace.stages[0]
    for selected, candidates in zip(first.selected, first.candidates, strict=True):
        assert torch.equal(selected, candidates[-len(selected) :])
    before = _packages(plan)
    SCORERS.add("later", later)
    assert before != _packages(plan) != []


def test_a_name_that_is_taken_or_an_object_of_another_kind_is_refused(monkeypatch):
    monkeypatch.setattr(SCORERS, "_session", {})
    with pytest.raises(ScheduleError, match="'last' is there already"):
        SCORERS.add("last", SCORERS["uniform"])
    with pytest.raises(ScheduleError, match="is a int, expected a Scoring"):
        SCORERS.add("mine", 3)
