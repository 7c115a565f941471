"""Estimated cost of a run of several schedules, before anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from tokenlens.evaluation.running.options import RunOptions
from tokenlens.evaluation.running.run import Run
from tokenlens.models.vlm import VLM
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of a run.

    Attributes:
        runs: number of runs over all samples: one unpruned, and one per schedule.
        samples: number of samples in each run.
        done: number of answers that exist already, out of runs x samples.
        measured: number of samples answered for the estimate.
        seconds: time for the missing answers.
        passes: prefill MACs of all runs, in passes of the unpruned model over the samples.
    """

    runs: int
    samples: int
    done: int
    measured: int
    seconds: float
    passes: float

    @property
    def answers(self) -> int:
        """Number of answers of all runs together."""
        return self.runs * self.samples


def estimate_arms(
    vlm: VLM,
    samples: Sequence[Sample],
    arms: Mapping[Path, Schedule | None],
    answers: Path,
    options: RunOptions,
    most: int | None = None,
) -> Estimate:
    """Estimate the cost from the first batch, which the arms answer in a temporary folder.

    The seconds are those of prefill and decoding. MACs are of the decoder's prefill.

    Args:
        vlm: a model with its processor.
        samples: at least one.
        arms: the schedule of each arm by its directory; the first arm is None, the unpruned model.
        answers: the answer cache, where answers that exist are counted.
        options: options for answering; the batch size gives the number of measured samples. This
            process measures, also where workers will answer.
        most: number of pruned arms that are measured, spread evenly over all of them; their mean
            stands for the others. None measures every arm.

    Raises:
        OutputError: a directory holds another run.
    """
    run = Run(vlm, samples, replace(options, show_progress=False, workers=None))
    run.check(arms.values())
    first = replace(
        run, samples=samples[: options.batch_size], options=replace(run.options, timed=True)
    )
    with TemporaryDirectory() as folder:
        places = {
            Path(folder) / str(place): schedule
            for place, schedule in enumerate(_spread(list(arms.values()), most))
        }
        columns = ["prefill_s", "decode_s", "macs"]
        measured = first.into(places, Path(folder))
        means = pd.DataFrame([results.outcomes[columns].mean() for results in measured])
    whole, others = means.iloc[0], means.iloc[1:].mean().fillna(0)
    every = whole + others * (len(arms) - 1)
    total = len(arms) * len(samples)
    done = replace(run, options=options).answered(arms, answers)
    seconds = whole["prefill_s"] + every["prefill_s"] + every["decode_s"]
    return Estimate(
        runs=len(arms),
        samples=len(samples),
        done=done,
        measured=len(first.samples),
        seconds=float(seconds * len(samples) * (total - done) / total),
        passes=float(every["macs"] / whole["macs"]),
    )


def _spread(arms: list[Schedule | None], most: int | None) -> list[Schedule | None]:
    """The first arm, and at most `most` of the others."""
    first, *others = arms
    if most is None or len(others) <= most:
        return arms
    return [first, *(others[(2 * place + 1) * len(others) // (2 * most)] for place in range(most))]
