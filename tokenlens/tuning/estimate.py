"""Estimated cost of a search; see `tune`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenlens.evaluation.information.curves import Information
from tokenlens.evaluation.running.estimate import estimate_arms
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.evaluation.running.run import many_at_once
from tokenlens.models.batch import mean_visual_tokens
from tokenlens.models.vlm import VLM
from tokenlens.probing.profile import Profile
from tokenlens.samples.sample import Sample
from tokenlens.tuning.goal import Goal
from tokenlens.tuning.starts import starting_points


@dataclass(frozen=True)
class SearchEstimate:
    """Estimated cost of `tune`.

    Attributes:
        starts: number of starting points, which are tried first.
        trials: number of schedules proposed after them.
        samples: number of samples that they are evaluated on.
        measured: number of samples answered for the estimate.
        seconds: at most this time for all of them: every trial answers all samples as slowly as the
            unpruned model. Trials that end early, and answers that exist, take less. Answers on
            held-out samples are not counted.
    """

    starts: int
    trials: int
    samples: int
    measured: int
    seconds: float


def estimate_tuning(
    vlm: VLM,
    samples: Sequence[Sample],
    goal: Goal,
    *,
    trials: int,
    timeout: float | None = None,
    profile: Profile | None = None,
    information: Information | None = None,
    batch_size: int | None = None,
    max_new_tokens: int = 32,
) -> SearchEstimate:
    """Estimate the cost from the first batch, which the unpruned model answers.

    Raises the errors of `tune` about the goal and the samples.
    """
    options = RunOptions(batch_size=batch_size or many_at_once(vlm), max_new_tokens=max_new_tokens)
    visual = mean_visual_tokens(vlm, samples)
    starts = starting_points(vlm, samples, goal.start_budgets, profile, information, visual)
    with TemporaryDirectory() as folder:
        place = Path(folder)
        whole = estimate_arms(vlm, samples, {place / "unpruned": None}, place, options)
    seconds = whole.seconds * (1 + len(starts) + trials)
    return SearchEstimate(
        starts=len(starts),
        trials=trials,
        samples=len(samples),
        measured=whole.measured,
        seconds=seconds if timeout is None else min(seconds, timeout),
    )
