"""A search on a random model: what it finds, and that it ends alike however often it is stopped."""

import json
import os
import signal
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import tokenlens as tl
from tests.support.builders import counted_samples
from tests.tuning.conftest import SEARCH
from tokenlens.errors import OptionError, OutputError, ResultsError
from tokenlens.evaluation.information.measure import information
from tokenlens.evaluation.running.answer_cache import own_answers
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.schedule import Schedule
from tokenlens.schedule.budget import parse_budget
from tokenlens.storage.seals import read_sealed
from tokenlens.tuning import search
from tokenlens.tuning.goal import Goal
from tokenlens.tuning.judge import Judge
from tokenlens.tuning.starts import starting_points
from tokenlens.tuning.study import FILE, Study
from tokenlens.tuning.tune import require_met
from tokenlens.tuning.tuning import COLUMNS, FRONT, SCHEDULE, TABLE

BUDGET = "60% MACs"


def plain(tuning):
    """All that is known of the trials, but why their schedules were made."""
    rows = [trial.as_json() for trial in tuning.trials]
    for row in rows:
        if row["schedule"]:
            row["schedule"].pop("why", None)
    return rows, [dict(trial.parameters) for trial in tuning.trials]


def test_the_choice_is_never_worse_than_a_starting_point(finished):
    tuning, _ = finished
    starts = [one for one in tuning.trials if one.name]
    assert len(starts) > 5
    assert all(one.finished for one in starts)
    assert tuning.chosen.score == max(one.score for one in tuning.trials if one.finished)
    assert tuning.chosen.used <= 1.01
    assert len([one for one in tuning.trials if not one.name]) == SEARCH["trials"]


def test_presets_that_go_by_needs_start_from_the_measured_ones(vlm, samples):
    measured = information(vlm, samples[:4], max_new_tokens=2)
    budget = parse_budget(BUDGET)

    def start(known):
        found = {one.name: one for one in starting_points(vlm, samples, [budget], None, known)}
        return found["tokenlens"].schedule, found["stride"].schedule

    told, assumed = start(measured), start(None)
    assert told[0].why.criterion == "information"
    assert told[0].stages != assumed[0].stages  # the control: without it they are assumed
    assert told[1] == assumed[1]


def test_figures_are_those_of_an_evaluation(vlm, samples, finished):
    tuning, _ = finished
    chosen = tuning.chosen
    results = tl.evaluate(vlm, samples, chosen.schedule, max_new_tokens=2)
    unpruned = tl.evaluate(vlm, samples, None, max_new_tokens=2)
    same = results.rows["prediction"] == unpruned.rows["prediction"]
    assert list(chosen.values) == same.astype(float).to_list()
    assert chosen.cost == pytest.approx(results.metrics["macs"] / unpruned.metrics["macs"])
    assert chosen.retained == pytest.approx(same.mean())  # as many samples of either task
    assert chosen.low <= chosen.retained <= chosen.high


def test_a_budget_in_tokens_is_that_of_the_samples(vlm):
    """Their pictures make 28 visual tokens; a square one, that of `Schedule.preset`, makes 36."""
    wide = [replace(one, image=one.image.resize((448, 20))) for one in counted_samples(4)]
    tuning = tl.tune(vlm, wide, "20 tokens", **SEARCH | {"trials": 3})
    ended = {one.title: one for one in tuning.trials if one.finished}
    assert {one.schedule.budget.n_visual for one in ended.values() if one.schedule.stages} == {28}
    for title in ("stride", "fastv"):
        found = tl.evaluate(vlm, wide, ended[title].schedule, max_new_tokens=2)
        assert found.metrics["tokens"] == pytest.approx(20, abs=0.5)
    assert tuning.chosen.used <= 1.01


def test_held_out_samples_that_were_tuned_on_are_said(vlm, samples):
    options = SEARCH | {"trials": 0}
    for others, said in ((samples[3:7], ["1 of the 4 held-out"]), (samples[4:8], [])):
        found = tl.tune(vlm, samples[:4], "60% MACs", held_out=others, **options)
        assert [one[:19] for one in found.cautions if "flatter the choice" in one] == said


def test_files_say_what_was_found(finished):
    tuning, directory = finished
    front = read_sealed(directory / FRONT, ResultsError, "")
    assert front["chosen"] == tuning.chosen.place
    assert {row["trial"] for row in front["front"]} >= {one.place for one in tuning.front}
    assert front["held_out_samples"] == 4
    held = next(row for row in front["front"] if row["chosen"])
    assert held["optimism"] == pytest.approx(held["retained"] - held["held_out"])
    lines = (directory / TABLE).read_text().splitlines()
    assert lines[0].split(",") == list(COLUMNS)
    assert len(lines) == 1 + len(tuning.trials)
    schedule = Schedule.load(directory / SCHEDULE)
    assert schedule == tuning.schedule
    assert schedule.why.criterion == "tune: the best within 60 % MACs"


@pytest.mark.slow
def test_held_out_samples_choose_nothing(vlm, samples, finished, tmp_path):
    """The control: the same search with other held-out samples has the same trials."""
    tuning, _ = finished
    other = tl.tune(vlm, samples, BUDGET, held_out=samples[:6], out=tmp_path / "o", **SEARCH)
    assert plain(other) == plain(tuning)
    assert other.chosen.place == tuning.chosen.place
    assert other.held_out != tuning.held_out


@pytest.mark.slow
def test_another_seed_proposes_other_trials(vlm, samples, finished, tmp_path):
    tuning, _ = finished
    other = tl.tune(vlm, samples, BUDGET, seed=1, out=tmp_path / "other", **SEARCH)
    assert plain(other)[1] != plain(tuning)[1]


@pytest.mark.slow
def test_a_killed_search_ends_as_one_left_alone(vlm, samples, finished, tmp_path):
    """Killed by SIGKILL at three moments, each time in a process of its own."""
    tuning, _ = finished
    directory, met = tmp_path / "killed", 0
    for wait in (1.0, 3.0, 6.0):
        child = os.fork()
        if child == 0:
            tl.tune(vlm, samples, BUDGET, out=directory, **SEARCH)
            os._exit(0)
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
        met += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert met >= 1
    again = tl.tune(vlm, samples, BUDGET, out=directory, **SEARCH)
    assert plain(again) == plain(tuning)


@pytest.mark.slow
def test_ctrl_c_in_a_trial_runs_it_again(vlm, samples, finished, tmp_path, monkeypatch):
    tuning, _ = finished
    judged, count = Judge.judge, []

    def cut_off(self, schedule, step):
        count.append(step)
        if len(count) == 12:
            raise KeyboardInterrupt
        return judged(self, schedule, step)

    monkeypatch.setattr(Judge, "judge", cut_off)
    with pytest.raises(KeyboardInterrupt):
        tl.tune(vlm, samples, BUDGET, out=tmp_path / "cut", **SEARCH)
    monkeypatch.undo()
    before = len(Study(tmp_path / "cut").trials)
    assert 0 < before < len(tuning.trials)
    again = tl.tune(vlm, samples, BUDGET, out=tmp_path / "cut", **SEARCH)
    assert plain(again) == plain(tuning)


@pytest.mark.slow
def test_half_a_line_of_the_file_is_dropped(vlm, samples, finished, tmp_path):
    tuning, directory = finished
    copy = tmp_path / "copy"
    copy.mkdir()
    lines = (directory / FILE).read_bytes().splitlines(keepends=True)
    (copy / "manifest.json").write_bytes((directory / "manifest.json").read_bytes())
    (copy / FILE).write_bytes(b"".join(lines[:-2]) + lines[-2][:40])
    kept = len(Study(copy).trials)
    assert kept == len(tuning.trials) - 2
    again = tl.tune(vlm, samples, BUDGET, out=copy, answers=own_answers(directory), **SEARCH)
    assert plain(again) == plain(tuning)


@pytest.mark.slow
def test_several_processes_share_a_study(vlm, samples, tmp_path):
    directory = tmp_path / "shared"
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            tl.tune(vlm, samples, BUDGET, out=directory, **SEARCH)
            os._exit(0)
        children.append(child)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert ended == [0, 0]
    trials = Study(directory).trials
    assert [one.place for one in trials] == list(range(len(trials)))
    lines = (directory / FILE).read_text().splitlines()
    created = [json.loads(line) for line in lines if '"trial"' in line]
    assert len(created) == len(trials)  # none was run twice


def test_another_search_in_the_same_place_is_refused(vlm, samples, finished):
    _, directory = finished
    with pytest.raises(OutputError, match="its seed is not the same"):
        tl.tune(vlm, samples, BUDGET, seed=5, out=directory, **SEARCH)
    with pytest.raises(OutputError, match="its goal is not the same"):
        tl.tune(vlm, samples, "55% MACs", out=directory, **SEARCH)


def test_a_share_that_nothing_reaches_names_the_nearest(vlm, samples, tmp_path):
    some = {**SEARCH, "trials": 2}
    some.pop("labels")
    tuning = tl.tune(vlm, samples, min_agreement="100%", out=tmp_path / "all", **some)
    assert tuning.schedule is None
    assert not (tmp_path / "all" / SCHEDULE).exists()
    with pytest.raises(ResultsError, match=r"no schedule of .* tried .* the nearest") as refused:
        require_met(tuning)
    assert len(str(refused.value)) <= 500


def test_a_model_that_scores_nothing_is_refused(vlm, samples, tmp_path):
    wrong = [replace(one, answers=("no such word",)) for one in samples[:4]]
    with pytest.raises(ResultsError, match="--no-labels"):
        tl.tune(vlm, wrong, BUDGET, trials=0, max_new_tokens=2)


def test_extents_that_make_no_sense(vlm, samples):
    with pytest.raises(OptionError, match="--trials"):
        tl.tune(vlm, samples, BUDGET, trials=-1)
    with pytest.raises(OptionError, match="--timeout"):
        tl.tune(vlm, samples, BUDGET, timeout=0)


def test_a_timeout_says_what_was_not_tried(vlm, samples, tmp_path):
    found = tl.tune(vlm, samples, BUDGET, timeout=1e-9, out=tmp_path / "short", **SEARCH)
    assert found.trials == ()
    assert any("starting points were not tried" in one for one in found.cautions)
    with pytest.raises(ResultsError, match="no trial has finished"):
        require_met(found)


def test_steps_hold_each_other_and_end_with_all(vlm, samples):
    judge = Judge(vlm, samples, Goal.of("50%"), RunOptions(), Path("x"))
    steps = [set(step) for step in judge.steps]
    assert all(first < second for first, second in pairwise(steps))
    assert steps[-1] == set(range(len(samples)))
    assert len(steps[0]) >= 8  # four of either task


def test_a_trial_is_given_up_where_a_cheaper_one_is_better(vlm, samples, finished, monkeypatch):
    """By pairs; and not where the cheaper one is as good."""
    tuning, _ = finished
    judge = Judge(vlm, samples, tuning.goal, RunOptions(), Path("x"))
    ones = np.ones(len(samples))
    monkeypatch.setattr(Judge, "baseline", lambda self, step: ones[list(self.steps[step])])
    rival = replace(tuning.chosen, values=tuple(ones), cost=0.1)
    looking = search.Search(tuning.goal, None, [], judge)
    trial = replace(tuning.chosen, name="")
    count = len(judge.steps[0])
    bad = search.Judgement(np.zeros(count), 0.2)
    good = search.Judgement(np.ones(count), 0.2)
    assert "worse than" in looking._hopeless(trial, bad, 0, [rival])
    assert looking._hopeless(trial, good, 0, [rival]) == ""
    assert looking._hopeless(replace(trial, name="preset"), bad, 0, [rival]) == ""
    assert looking._hopeless(trial, bad, 0, [replace(rival, cost=0.3)]) == ""
