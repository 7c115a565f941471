"""Timing of the arms, side by side in one run.

Answers are cached between runs. Times are not cached, because a machine's load changes. Therefore
all arms answer a few fixed batches in turn, only for the timing.
"""

import statistics
import time
from collections.abc import Mapping, Sequence

import torch

from tokenlens.evaluation.comparing.timing import Timing, schedule_hash
from tokenlens.evaluation.running.generation import Prepared
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.models.vlm import VLM
from tokenlens.progress import progress
from tokenlens.samples.sample import Sample
from tokenlens.samples.subset import choose_subset
from tokenlens.schedule import Schedule

_BATCHES, _BATCH_SIZE, _REPEATS = 4, 8, 3
_ENOUGH_S = 25.0
"""Seconds after which no batch is repeated again."""


def time_arms(
    vlm: VLM,
    samples: Sequence[Sample],
    schedules: Mapping[str, Schedule | None],
    options: RunOptions,
) -> Timing:
    """Time all arms on a few batches of samples of all tasks.

    After a warm-up, all arms answer every batch in turn, and the order is reversed each time. The
    times can then be compared although the machine's speed changes slowly.

    Args:
        vlm: a model with its processor.
        samples: at least one; up to 32 of them are used, taken from the tasks in turn, and those
            with pictures only, where there are any.
        schedules: by the name of their arm; None is the unpruned model.
        options: options for answering; the batch size for timing is fixed.
    """
    samples = [sample for sample in samples if sample.pictures] or samples
    chosen = [samples[place] for place in _subset(samples, _BATCHES * _BATCH_SIZE)]
    size = min(_BATCH_SIZE, len(chosen))
    batches = [
        Prepared(vlm, chosen[start : start + size])
        for start in range(0, len(chosen) - size + 1, size)
    ]
    laps: dict[str, list[list[tuple[float, float]]]] = {
        arm: [[] for _ in batches] for arm in schedules
    }

    def lap(arm: str, prepared: Prepared) -> tuple[float, float]:
        first = prepared.answer(schedules[arm], options)[0]
        return first.prefill_s, first.decode_s

    begun, repeats = time.monotonic(), 0
    total = len(schedules) * (1 + len(batches) * _REPEATS)
    with progress("timing", total, 0, options.show_progress) as advance:
        for arm in schedules:
            lap(arm, batches[0])
            advance()
        while repeats < _REPEATS and (not repeats or time.monotonic() - begun < _ENOUGH_S):
            for place, prepared in enumerate(batches):
                order = list(schedules)
                for arm in order if (place + repeats) % 2 == 0 else reversed(order):
                    laps[arm][place].append(lap(arm, prepared))
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
    return Timing(arms, size, repeats, f"{vlm.device.type}{threads}")


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
