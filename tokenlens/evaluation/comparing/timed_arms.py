"""Timing of the arms, side by side in one run.

Answers are cached between runs. Times are not cached, because a machine's load changes. Therefore
all arms answer a few fixed batches in turn, only for the timing.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from tokenlens.evaluation.comparing.timing import Timing, schedule_hash
from tokenlens.evaluation.running.generation import Answer, Prepared
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.models.batch import Batch
from tokenlens.models.vlm import VLM
from tokenlens.progress import progress
from tokenlens.samples.sample import Sample
from tokenlens.samples.subset import choose_subset
from tokenlens.schedule import Schedule

BATCH_SIZE = 8
"""Samples of a batch that is timed."""
_BATCHES, _REPEATS = 4, 3
_WARM_UP = 2
"""Tokens that every arm answers before its time is taken."""
_ENOUGH_S = 25.0
"""Seconds after which no batch is repeated again."""


def time_arms(
    vlm: VLM,
    samples: Sequence[Sample],
    schedules: Mapping[str, Schedule | None],
    options: RunOptions,
    keep: Callable[[str, Batch, Sequence[Answer]], None] | None = None,
) -> Timing:
    """Time all arms on a few batches of samples of all tasks.

    After a warm-up of two tokens, all arms answer every batch in turn, and the order is reversed
    each time. The times can then be compared although the machine's speed changes slowly.

    Args:
        vlm: a model with its processor.
        samples: at least one; some of them are used, see `timed_rows`.
        schedules: by the name of their arm; None is the unpruned model.
        options: options for answering; the batch size for timing is fixed.
        keep: is given the answers of the first round, each batch with the name of its arm.
    """
    rows = timed_rows(samples)
    batches = [Prepared(vlm, [samples[row] for row in batch]) for batch in rows]
    laps: dict[str, list[list[tuple[float, float]]]] = {
        arm: [[] for _ in batches] for arm in schedules
    }

    def lap(arm: str, prepared: Prepared, first_round: bool) -> tuple[float, float]:
        answers = prepared.answer(schedules[arm], options)
        if keep is not None and first_round:
            keep(arm, prepared.batch(schedules[arm]), answers)
        return answers[0].prefill_s, answers[0].decode_s

    begun, repeats = time.monotonic(), 0
    total = len(schedules) * (1 + len(batches) * _REPEATS)
    with progress("timing", total, 0, options.show_progress) as advance:
        for arm in schedules:
            batches[0].answer(schedules[arm], replace(options, max_new_tokens=_WARM_UP))
            advance()
        while repeats < _REPEATS and (not repeats or time.monotonic() - begun < _ENOUGH_S):
            for place, prepared in enumerate(batches):
                order = list(schedules)
                for arm in order if (place + repeats) % 2 == 0 else reversed(order):
                    laps[arm][place].append(lap(arm, prepared, not repeats))
                    advance()
            repeats += 1
        advance(len(schedules) * len(batches) * (_REPEATS - repeats))
    arms = {
        arm: {
            "schedule": schedule_hash(schedules[arm]),
            "prefill_s": [statistics.median(first for first, _ in lap) for lap in own],
            "decode_s": [statistics.median(rest for _, rest in lap) for lap in own],
        }
        for arm, own in laps.items()
    }
    count = torch.get_num_threads()
    threads = f", {count} thread{'s' * (count > 1)}" if vlm.device.type == "cpu" else ""
    return Timing(arms, len(rows[0]), repeats, f"{vlm.device.type}{threads}")


def timed_rows(samples: Sequence[Sample]) -> list[list[int]]:
    """The batches that `time_arms` takes, by the samples' places: up to four of eight.

    They are taken from the tasks in turn, and of samples with pictures only, where there are any.
    """
    pictured = [row for row, sample in enumerate(samples) if sample.pictures]
    rows = pictured or list(range(len(samples)))
    places = _subset([samples[row] for row in rows], _BATCHES * BATCH_SIZE)
    size = min(BATCH_SIZE, len(places))
    return [
        [rows[place] for place in places[start : start + size]]
        for start in range(0, len(places) - size + 1, size)
    ]


def _subset(samples: Sequence[Sample], count: int) -> list[int]:
    """Indices of up to `count` samples, taken from the tasks in turn, so that batches are alike."""
    places = list(range(len(samples))) if len(samples) <= count else choose_subset(samples, count)
    turns: dict[str, int] = {}
    keyed = []
    for place in places:
        task = samples[place].task
        keyed.append((turns.setdefault(task, 0), place))
        turns[task] += 1
    return [place for _, place in sorted(keyed)]
