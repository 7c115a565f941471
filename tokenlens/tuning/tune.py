"""Search for a schedule for a model and its samples."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenlens.errors import OutputError, ResultsError
from tokenlens.evaluation.information.curves import Information
from tokenlens.evaluation.running.answer_cache import own_answers
from tokenlens.evaluation.running.cache_key import code_hash, sample_key
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.evaluation.running.run import Run, many_at_once
from tokenlens.models.batch import mean_visual_tokens
from tokenlens.models.fingerprint import model_identity
from tokenlens.models.vlm import VLM
from tokenlens.probing.profile import Profile
from tokenlens.samples.dataset import with_pictures
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Why
from tokenlens.schedule.budget import Budget
from tokenlens.schedule.effect import effective_schedule
from tokenlens.schedule.notes import TUNED
from tokenlens.storage.files import hash_json
from tokenlens.storage.invocation import current_command
from tokenlens.storage.output_paths import kind_of
from tokenlens.storage.run_directory import MANIFEST
from tokenlens.storage.seals import read_sealed, write_sealed
from tokenlens.storage.trackers import Tracker
from tokenlens.storage.versions import versions
from tokenlens.tuning.goal import Goal, check_extent, check_workers
from tokenlens.tuning.judge import Judge
from tokenlens.tuning.search import Search
from tokenlens.tuning.space import Space
from tokenlens.tuning.starts import Start, starting_points
from tokenlens.tuning.study import Study
from tokenlens.tuning.tracking import SearchTracking
from tokenlens.tuning.trials import Trial
from tokenlens.tuning.tuning import HeldOut, Tuning
from tokenlens.wording import cautions
from tokenlens.workers import Workers

KIND = "tuning"
TRIALS = 100
"""Default number of proposed schedules, besides the starting points."""

_PURPOSE = "the search for a schedule"
_FAVOUR = 9
"""Extra values of the parameter `budget` that mean the whole budget."""


def tune(
    vlm: VLM,
    samples: Sequence[Sample],
    budget: Budget | str | float | None = None,
    *,
    min_retained: str | float | None = None,
    min_agreement: str | float | None = None,
    objective: str = "macs",
    labels: bool = True,
    trials: int = TRIALS,
    timeout: float | None = None,
    seed: int = 0,
    held_out: Sequence[Sample] = (),
    profile: Profile | None = None,
    information: Information | None = None,
    out: Path | str | None = None,
    answers: Path | str | None = None,
    batch_size: int | None = None,
    max_new_tokens: int = 32,
    show_progress: bool = False,
    workers: Workers | None = None,
    tracker: Tracker | None = None,
) -> Tuning:
    """Find the best schedule within a budget, or the cheapest that keeps a share of the score.

    Exactly one of `budget`, `min_retained` and `min_agreement` is given. Nothing is chosen by
    `held_out`. After the choice, the front, the chosen schedule and the best starting point answer
    these samples, and the difference is reported.

    Args:
        vlm: a model with its processor.
        samples: samples that schedules are evaluated on; those without a picture are left out, with
            a warning.
        budget: greatest cost of a schedule: see `Schedule.preset`. It is solved for the mean number
            of visual tokens of the samples (of 32 evenly spaced ones, where there are more).
        min_retained: a share of the unpruned model's score, "98%" or 0.98, that the low end of the
            95 % paired bootstrap interval must reach.
        min_agreement: likewise, the share of answers that agree with the unpruned model's.
        objective: the cost to reduce: "macs" of the prefill, "prefill-time" or "kv" (cache bytes).
        labels: whether ground truth is used; samples without it are always evaluated by agreement.
        trials: number of proposed schedules, besides the starting points.
        timeout: seconds after which no new trial begins.
        seed: seed of the proposals.
        held_out: other samples, which show the optimism of figures on the tuning samples.
        profile: profile of this model; the schedule of `select-layers` for it is tried too.
        information: information profile of this model, which tells presets what each layer needs.
        out: directory of the study, in which an interrupted search continues; several processes may
            work on one. None keeps no files.
        answers: directory in which answers are kept; None keeps them in `out`.
        batch_size: samples per batch; it does not change the answers.
        max_new_tokens: tokens after which an answer is cut off.
        show_progress: show a bar with an ETA on standard error.
        workers: processes that answer in place of this one, with the same trials. They load the
            model for every step of a trial that has answers to give.
        tracker: is told of every trial as it ends, and of the front; see
            `tokenlens.storage.trackers`.

    Raises:
        OptionError: a goal with options that exclude each other, or an option out of range.
        BudgetError: a budget that no preset can meet.
        ResultsError: the unpruned model scores 0.
        SampleError: no samples, or a picture that cannot be used.
        OutputError: `out` holds something else, another search, or cannot be written to.
        TrackerError: the tracker does not take the search, whose trials are kept.
    """
    goal = Goal.of(budget, min_retained, min_agreement, objective=objective, labels=labels)
    check_extent(trials, timeout)
    check_workers(goal, workers)
    options = RunOptions(
        batch_size=batch_size or many_at_once(vlm), max_new_tokens=max_new_tokens, workers=workers
    )
    Run(vlm, samples, options).check([])
    samples = with_pictures(samples, _PURPOSE)
    held_out = with_pictures(held_out, _PURPOSE) if held_out else held_out
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory()) if out is None else out)
        place = own_answers(directory) if answers is None else Path(answers)
        judge = Judge(vlm, samples, goal, options, place)
        visual = mean_visual_tokens(vlm, samples)
        space = Space.of(vlm, goal.budgets, 0 if goal.budget is None else _FAVOUR, visual)
        starts = starting_points(vlm, samples, goal.start_budgets, profile, information, visual)
        source = _identity(judge, starts, seed)
        _claim(directory, source)
        study = Study(directory)
        judge.require_score()
        search = Search(goal, space, starts, judge, seed)
        tracking = SearchTracking(tracker)
        tracking.begin(directory, source)
        found = search.run(study, trials, timeout, show_progress, tracking.ended)
        with study.alone():
            tuning = _explained(Tuning(goal, tuple(found), len(samples)), judge)
            tuning = _held(tuning, judge, held_out, show_progress)
            said = (*_cautions(tuning, judge, len(starts)), *_on_leaks(samples, held_out))
            tuning = replace(tuning, source=source, cautions=said)
            tuning.save(directory)
    tracking.end(tuning)
    return tuning


def require_met(tuning: Tuning) -> None:
    """Raise `ResultsError`, with the nearest trial, where none meets the goal."""
    if tuning.chosen is not None:
        return
    near = tuning.nearest
    if near is None or near.retained is None or near.low is None:
        raise ResultsError(
            f"no trial has finished, so there is no schedule for {tuning.goal.words}; give more "
            "time, or more --trials"
        )
    raise ResultsError(
        f"no schedule of {len(tuning.trials)} tried is {tuning.goal.words} (by the low end of its "
        f"interval); the nearest, {near.title}, retains {near.retained:.1%} (low end "
        f"{near.low:.1%}, {len(near.values)} samples) at {near.price:.1%} of the "
        "cost; ask for less, or give more --trials"
    )


def _held(tuning: Tuning, judge: Judge, held_out: Sequence[Sample], show_progress: bool) -> Tuning:
    """The result with the shares that the shown trials retain on the held-out samples."""
    if not held_out:
        return tuning
    options = replace(judge.options, show_progress=show_progress)
    other = replace(judge, samples=held_out, options=options)
    last = len(other.steps) - 1
    schedules = {one.place: one.schedule for one in tuning.shown if one.schedule is not None}
    judged = other.judge_all(list(schedules.values()), last)
    values = {place: one.values for place, one in zip(schedules, judged, strict=True)}
    found = {
        place: HeldOut(*map(float, other.retained(one, last).interval()))
        for place, one in values.items()
    }
    near, start, margin = tuning.nearest, tuning.best_start, None
    if near is not None and start is not None and near is not start:
        drawn = other.difference(values[near.place], values[start.place], last)
        margin = HeldOut(*map(float, drawn.interval()))
    return replace(tuning, held_out=found, held_out_samples=len(held_out), margin=margin)


def _explained(tuning: Tuning, judge: Judge) -> Tuning:
    """The result with the source of each trial's schedule written into it."""
    why = Why(
        criterion=f"tune: {tuning.goal.words}",
        relative_to="the unpruned model",
        data=getattr(judge.samples, "source", None),
        split=getattr(judge.samples, "split", None),
        tokenlens=version("tokenlens"),
        date=datetime.now(UTC).date().isoformat(),
        command=current_command(),
    )

    def told(trial: Trial) -> Trial:
        if trial.schedule is None:
            return trial
        name = {} if trial.name else {"method": TUNED}
        return replace(trial, schedule=trial.schedule.replace(why=why, **name))

    return replace(tuning, trials=tuple(map(told, tuning.trials)))


def _cautions(tuning: Tuning, judge: Judge, starts: int) -> tuple[str, ...]:
    tasks: dict[str, int] = {}
    for sample in judge.samples:
        tasks[sample.task] = tasks.get(sample.task, 0) + 1
    said = cautions.on_few(tasks)
    left = starts - sum(bool(trial.name) for trial in tuning.trials)
    if left:
        said.append(
            f"{left} of the {starts} starting points were not tried in the time given: the choice "
            "may be worse than one of them."
        )
    if not tuning.held_out_samples:
        said.append(
            "There are no held-out samples: scores of the best of many trials flatter it, and by "
            "how much is not known."
        )
    return tuple(said)


def _on_leaks(samples: Sequence[Sample], held_out: Sequence[Sample]) -> list[str]:
    """Held-out samples, by question and pictures, that schedules were evaluated on."""
    known = set(map(sample_key, samples)) if held_out else set()
    leaked = sum(sample_key(one) in known for one in held_out)
    if not leaked:
        return []
    return [
        f"{leaked} of the {len(held_out)} held-out samples are samples that schedules were tuned "
        "on: held-out figures flatter the choice."
    ]


def _identity(judge: Judge, starts: Sequence[Start], seed: int) -> dict[str, Any]:
    """Identity of a search; the number of trials and the timeout are no part of it."""
    return {
        "model": {**model_identity(judge.vlm), "architecture": judge.vlm.architecture},
        "data": {
            "source": getattr(judge.samples, "source", None),
            "split": getattr(judge.samples, "split", None),
            "samples": len(judge.samples),
            "hash": hash_json(
                [
                    [sample_key(one), one.id, one.task, one.group, list(one.answers)]
                    for one in judge.samples
                ]
            ),
        },
        "goal": judge.goal.as_json(),
        "seed": seed,
        "max_new_tokens": judge.options.max_new_tokens,
        "starting points": hash_json(
            [[start.name, effective_schedule(start.schedule)] for start in starts]
        ),
        "code": code_hash(),
    }


def _claim(directory: Path, identity: Mapping[str, Any]) -> None:
    """Mark a directory as this search's, or check that it is marked so."""
    path = directory / MANIFEST
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"{directory} is a file, not a directory; choose another with --out")
    if not path.exists():
        if directory.exists() and any(directory.glob("[!.]*")):
            raise OutputError(
                f"{directory} is not empty and holds no {KIND}; choose another with --out"
            )
        content = {"schema": 1, "kind": KIND, "identity": identity, "versions": versions()}
        write_sealed(path, content)
        return
    try:
        kind = kind_of(directory)
        there = read_sealed(path, ResultsError, "delete its folder").get("identity", {})
    except ResultsError as error:
        raise OutputError(str(error)) from error
    if kind != KIND:
        raise OutputError(f"{directory} holds a {kind}; choose another directory with --out")
    for key, value in identity.items():
        if there.get(key) != value:
            raise OutputError(
                f"{directory} holds another {KIND}: its {key} is not the same; choose another "
                "directory with --out, or delete it"
            )
