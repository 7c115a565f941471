"""Score and cost of a schedule on samples, with more samples in each step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, isnan
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tokenlens.errors import ResultsError
from tokenlens.evaluation.comparing.timed_arms import time_arms
from tokenlens.evaluation.metrics.agreement import agreement
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.evaluation.running.run import Run
from tokenlens.measures.intervals import Resampled
from tokenlens.models.vlm import VLM
from tokenlens.samples.sample import Sample
from tokenlens.samples.subset import choose_subset
from tokenlens.schedule import Schedule
from tokenlens.tuning.goal import Goal, Objective

Floats = NDArray[np.float64]
_COLUMNS: dict[Objective, str] = {"macs": "macs", "kv": "kv_bytes", "prefill-time": "macs"}
"""Column of the rows with the cost. Rows hold no times, so MACs are used until a trial is timed."""
STEPS = (0.125, 0.25, 0.5, 1.0)
"""Shares of the samples after which a trial may be given up."""
_ENOUGH = 4
"""Least number of samples of every task in the first step: intervals of fewer mean little."""


@dataclass(frozen=True)
class Judgement:
    """A schedule on the samples of a step.

    Attributes:
        values: score or agreement of each sample of the step, float64 [samples].
        cost: mean cost, as a share of the unpruned model's.
    """

    values: Floats
    cost: float


@dataclass(frozen=True)
class Judge:
    """Evaluates schedules on samples; earlier answers are read from the answer cache.

    Attributes:
        vlm: a model with its processor.
        samples: all samples that schedules are evaluated on.
        goal: determines the score and the cost.
        options: options for answering samples.
        answers: directory of the answer cache.
    """

    vlm: VLM
    samples: Sequence[Sample]
    goal: Goal
    options: RunOptions
    answers: Path

    @cached_property
    def steps(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the samples of every step, tasks in turn; a step includes the step before."""
        total = len(self.samples)
        enough = min(total, _ENOUGH * len({sample.task for sample in self.samples}))
        counts = sorted({max(enough, ceil(total * share)) for share in STEPS})
        found = (self._places(count) for count in counts)
        return tuple(dict.fromkeys(places for places in found if places))

    @cached_property
    def _runs(self) -> tuple[Run, ...]:
        return tuple(
            Run(self.vlm, [self.samples[place] for place in places], self.options)
            for places in self.steps
        )

    @cached_property
    def _unpruned(self) -> tuple[pd.DataFrame, ...]:
        return tuple(self._rows([None], step)[0] for step in range(len(self.steps)))

    def baseline(self, step: int) -> Floats:
        """Score or agreement of the unpruned model, per sample of a step."""
        rows = self._unpruned[step]
        return self._values(rows, rows)

    def judge(self, schedule: Schedule, step: int) -> Judgement:
        """Evaluate a schedule on the samples of a step. Raises the errors of `Run`."""
        return self.judge_all([schedule], step)[0]

    def judge_all(self, schedules: Sequence[Schedule], step: int) -> list[Judgement]:
        """Evaluate several schedules, which share the samples' preparation."""
        whole, column = self._unpruned[step], _COLUMNS[self.goal.objective]
        return [
            Judgement(self._values(rows, whole), float(rows[column].mean() / whole[column].mean()))
            for rows in self._rows(schedules, step)
        ]

    def time_share(self, schedule: Schedule) -> float:
        """Prefill time as a share of the unpruned model's, both timed on the same batches."""
        options = replace(self.options, max_new_tokens=1, show_progress=False, timed=True)
        arms: Mapping[str, Schedule | None] = {"unpruned": None, "pruned": schedule}
        times = time_arms(self.vlm, self.samples, arms, options).of("prefill_s", list(arms))
        return float(np.median(times[:, 1] / times[:, 0]))

    def retained(self, values: Floats, step: int) -> Resampled:
        """Share of the unpruned score that `values` retain: mean over tasks, paired bootstrap."""
        pairs = np.stack([self.baseline(step), values], axis=1)
        drawn = Resampled.of(self.strata(pairs, step))
        return drawn[1] / drawn[0]

    def difference(self, values: Floats, others: Floats, step: int) -> Resampled:
        """Paired difference of the shares that `values` and `others` retain, same samples."""
        drawn = Resampled.of(
            self.strata(np.stack([self.baseline(step), values, others], axis=1), step)
        )
        return drawn[1] / drawn[0] - drawn[2] / drawn[0]

    def at_step(self, values: Sequence[float], step: int) -> Floats:
        """Select a step's samples from values of all samples."""
        return np.asarray(values, dtype=np.float64)[list(self.steps[step])]

    def mean(self, values: Floats, step: int) -> float:
        """Mean of the tasks' means."""
        return float(np.mean([one.mean() for one in self.strata(values, step)]))

    def at_most(self, values: Floats, step: int) -> float:
        """Retained share if all samples outside the step were answered right."""
        last = len(self.steps) - 1
        best = np.ones(len(self.samples))
        best[list(self.steps[step])] = values
        return self.mean(best, last) / self.mean(self.baseline(last), last)

    def strata(self, values: Floats, step: int) -> list[Floats]:
        """The values of a step [samples, ...], by task."""
        tasks = [self.samples[place].task for place in self.steps[step]]
        return [values[[other == task for other in tasks]] for task in dict.fromkeys(tasks)]

    def check(self, schedule: Schedule | None = None) -> None:
        """Raise the error of a run that cannot use this schedule."""
        self._runs[0].check([schedule])

    def require_score(self) -> None:
        """Raise `ResultsError` where the unpruned model scores 0, because no share is defined."""
        last = len(self.steps) - 1
        if isnan(float(self.retained(self.baseline(last), last).mean)):
            raise ResultsError(
                f"the unpruned model scores 0 on all {len(self.samples)} samples, so nothing can "
                "be retained; judge by agreement with --no-labels or --min-agreement"
            )

    def _places(self, count: int) -> tuple[int, ...]:
        """Indices of the first `count` samples, tasks in turn, with whole groups."""
        largest = max(map(len, _groups(self.samples)), default=1)
        return tuple(choose_subset(self.samples, max(count, largest)))

    def _rows(self, schedules: Sequence[Schedule | None], step: int) -> list[pd.DataFrame]:
        with TemporaryDirectory() as folder:
            arms = {Path(folder) / str(place): one for place, one in enumerate(schedules)}
            return [found.outcomes for found in self._runs[step].into(arms, self.answers)]

    def _values(self, rows: pd.DataFrame, whole: pd.DataFrame) -> Floats:
        same = agreement(rows["prediction"], whole["prediction"])
        values = rows["score"].astype(float).fillna(same) if self.goal.labels else same
        return np.asarray(values, dtype=np.float64)


def _groups(samples: Sequence[Sample]) -> list[list[int]]:
    """Indices of the samples of each group that is scored together."""
    found: dict[tuple[str, str], list[int]] = {}
    for place, sample in enumerate(samples):
        found.setdefault((sample.task, sample.group or str(place)), []).append(place)
    return list(found.values())
