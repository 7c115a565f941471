"""The search: one trial after the other; a trial stops early where it cannot become the best."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tokenlens.errors import BudgetError, PruningError, ScheduleError
from tokenlens.measures.intervals import Resampled
from tokenlens.progress import progress
from tokenlens.schedule import Schedule
from tokenlens.tuning.goal import Goal
from tokenlens.tuning.judge import Judge, Judgement
from tokenlens.tuning.space import Space
from tokenlens.tuning.starts import Start
from tokenlens.tuning.study import Study, propose
from tokenlens.tuning.trials import Trial

_SLACK = 1e-9


@dataclass(frozen=True)
class Search:
    """A search: its goal, space, starting points and evaluation.

    Attributes:
        goal: goal of the search.
        space: space of the proposals.
        starts: starting points, tried first.
        judge: evaluates schedules on the tuning samples.
        seed: seed of the proposals.
    """

    goal: Goal
    space: Space
    starts: Sequence[Start]
    judge: Judge
    seed: int = 0

    def run(
        self,
        study: Study,
        trials: int,
        timeout: float | None = None,
        show_progress: bool = False,
        ended: Callable[[list[Trial]], None] = lambda _trials: None,
    ) -> list[Trial]:
        """Try the starting points and `trials` proposals, trials of earlier calls included.

        Args:
            study: stores the trials; other processes may add to it at the same time.
            trials: number of proposals, besides the starting points.
            timeout: seconds after which no new trial begins.
            show_progress: show a bar with an ETA on standard error.
            ended: called with all ended trials, whenever there are more.
        """
        total = len(self.starts) + trials
        began = time.monotonic()

        def over() -> bool:
            return timeout is not None and time.monotonic() - began >= timeout

        done = min(total, len(study.trials))
        with progress("tuning", total, done, show_progress) as advance:
            while (claimed := study.claim(total, over)) is not None:
                place, lock = claimed
                with lock:
                    before = [one for one in study.trials if one.place < place]
                    study.add(self.trial(place, before), self.space)
                ended(study.trials)
                now = min(total, len(study.trials))
                advance(now - done)
                done = now
        ended(study.trials)
        return study.trials

    def trial(self, place: int, before: Sequence[Trial]) -> Trial:
        """Run the trial with number `place`; `before` are the ended trials of smaller numbers."""
        if place < len(self.starts):
            start = self.starts[place]
            parameters = self.space.parameters(start.schedule, start.budget)
            trial = Trial(place, start.name, "refused", start.schedule, parameters)
        else:
            schedule, drawn, reason = propose(self.space, before, place, self.seed, self.rank)
            trial = Trial(place, "", "refused", schedule, drawn, reason=reason)
        if trial.schedule is None:
            return trial
        try:
            self.judge.check(trial.schedule)
            return self._judged(trial, trial.schedule, before)
        except (BudgetError, PruningError, ScheduleError) as error:
            return replace(trial, reason=str(error))

    def rank(self, trial: Trial) -> tuple[float, ...]:
        """Sort key of finished trials, the best first."""
        least = self.goal.least
        if least is None:
            return (-trial.score, trial.price)
        met = (trial.low or 0.0) >= least
        return (0.0, trial.price) if met else (1.0, -(trial.low or 0.0))

    def _judged(self, trial: Trial, schedule: Schedule, before: Sequence[Trial]) -> Trial:
        """Evaluate the trial on more samples in each step, until it ends or is given up."""
        used = self.space.used(schedule) if self.goal.budget is not None else None
        last = len(self.judge.steps) - 1
        whole = bool(trial.name) and self.goal.least is None  # this trial is not given up
        for step in range(last if whole else 0, last + 1):
            judgement = self.judge.judge(schedule, step)
            drawn = self.judge.retained(judgement.values, step)
            mean, low, high = map(float, drawn.interval())
            trial = replace(
                trial,
                values=tuple(judgement.values.tolist()),
                retained=mean,
                low=low,
                high=high,
                cost=judgement.cost,
                used=used,
            )
            if step < last and (reason := self._hopeless(trial, judgement, step, before)):
                return replace(trial, outcome="hopeless", reason=reason)
        if self.goal.objective == "prefill-time":
            trial = replace(trial, cost=self.judge.time_share(schedule))
        return replace(trial, outcome="finished")

    def _hopeless(
        self, trial: Trial, judgement: Judgement, step: int, before: Sequence[Trial]
    ) -> str:
        """Reason to give up a trial; empty where it continues.

        A starting point is given up only where no answers to the other samples could reach the
        goal. A proposal is given up by its interval.
        """
        least, count = self.goal.least, len(judgement.values)
        if least is not None:
            if trial.name:
                if self.judge.at_most(judgement.values, step) < least - _SLACK:
                    return f"cannot retain {least:.1%} any more after {count} samples"
            elif trial.high is not None and trial.high < least:
                return f"retains {trial.high:.1%} at most, by {count} samples"
        if trial.name or self.goal.objective == "prefill-time":
            return ""
        rivals = {
            one.title: self.judge.at_step(one.values, step)
            for one in before
            if one.finished and one.price <= judgement.cost + _SLACK
        }
        if not rivals:
            return ""
        best = max(rivals, key=lambda title: self.judge.mean(rivals[title], step))
        difference = judgement.values - rivals[best]
        high = Resampled.of(self.judge.strata(difference, step)).interval()[2]
        return f"worse than {best}, which costs no more, by {count} samples" if high < 0 else ""
