"""Choice of a subset of samples: an equal share of every task, and no group split."""

from collections import Counter
from collections.abc import Sequence

from tokenlens.errors import SampleError
from tokenlens.samples.sample import Sample


def choose_subset(samples: Sequence[Sample], limit: int | None) -> list[int]:
    """Indices of the samples taken from the tasks in turn, in ascending order.

    Samples of one group are taken together or not at all, so there may be fewer than `limit`.

    Raises:
        SampleError: a limit below 1, or below the size of the first group.

    >>> [sample] = [Sample("a", "a.png", "what?", task="count")]
    >>> choose_subset([sample, sample, Sample("b", "b.png", "where?", task="place")], 2)
    [0, 2]
    """
    if limit is not None and limit < 1:
        raise SampleError(f"the limit must be at least 1 sample, got {limit}")
    units: dict[object, list[int]] = {}
    for place, sample in enumerate(samples):
        units.setdefault((sample.task, sample.group) if sample.group else place, []).append(place)
    if limit is None or limit >= len(samples):
        return list(range(len(samples)))
    turns: Counter[str] = Counter()
    keyed = []
    for unit in units.values():
        task = samples[unit[0]].task
        keyed.append((turns[task], unit[0], unit))
        turns[task] += 1
    taken: list[int] = []
    for _, _, unit in sorted(keyed):
        if len(taken) + len(unit) > limit:
            break
        taken += unit
    if not taken:
        size = len(min(keyed)[2])
        raise SampleError(
            f"the limit must be at least {size} here, got {limit}: the {size} samples of a group "
            "are scored together"
        )
    return sorted(taken)
