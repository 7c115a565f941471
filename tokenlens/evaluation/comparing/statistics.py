"""Scores of every arm beside the unpruned model's on the same samples, with bootstrap intervals."""

from collections.abc import Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray

from tokenlens.measures.intervals import Resampled

Floats = NDArray[np.float64]


def score_statistics(
    strata: Sequence[Floats], arms: int, *, confidence: float = 0.95
) -> list[dict[str, float]]:
    """Score of each arm and the share it retains of the first one's, each with its interval.

    Args:
        strata: per stratum the scores [samples, arms], every arm's over the same samples. Figures
            are means of the strata's means: one stratum gives the plain mean, one per task the
            macro average. Samples are resampled within their stratum, with the same draw for all
            arms.
        arms: number of arms; the first is the baseline.
        confidence: level of the intervals, 0 to 1.

    Returns:
        Per arm `score` and `retained` (the ratio of the mean scores), each with `_low` and `_high`.
        All values are NaN without samples. `retained` is NaN where the baseline's mean is 0.

    >>> found = score_statistics([np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])], 2)
    >>> found[1]["score"], found[1]["retained"], found[1]["retained_high"]
    (0.5, 0.5, 1.0)
    """
    if not strata:
        return [dict.fromkeys(_NAMES, nan)] * arms
    drawn = Resampled.of(strata)
    figures = [
        (*drawn[arm].interval(confidence), *(drawn[arm] / drawn[0]).interval(confidence))
        for arm in range(arms)
    ]
    return [dict(zip(_NAMES, map(float, row), strict=True)) for row in figures]


_NAMES = ("score", "score_low", "score_high", "retained", "retained_low", "retained_high")
