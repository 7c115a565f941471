"""Estimated cost of a comparison; see `compare`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenlens.evaluation.comparing.compare import free_directory
from tokenlens.evaluation.comparing.comparison import UNPRUNED
from tokenlens.evaluation.running.estimate import Estimate, estimate_arms
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.evaluation.running.run import Run
from tokenlens.models.vlm import VLM
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule
from tokenlens.storage.output_paths import slug

_MOST = 6
"""Pruned arms that are measured; a field of many methods, or an arm per layer, has tens."""


def estimate_comparison(
    vlm: VLM,
    samples: Sequence[Sample],
    schedules: Mapping[str, Schedule | None],
    out: Path,
    *,
    answers: Path,
    options: RunOptions,
    beside: bool = False,
) -> tuple[Estimate, Path]:
    """The cost of `compare` with the same arguments, and the directory that it would write to.

    Raises the errors of `compare` that are known before anything is computed.
    """
    arms = {UNPRUNED: None, **schedules}
    run = Run(vlm, samples, options)
    run.check(arms.values())
    if beside:
        out = free_directory(out, run, arms)
    places = {out / slug(name): schedule for name, schedule in arms.items()}
    return estimate_arms(vlm, samples, places, answers, options, _MOST), out
