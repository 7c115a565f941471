"""Scores of an arm beside the unpruned model's on the same samples, with bootstrap intervals."""

from collections.abc import Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray

from tokenlens.measures.intervals import interval_ends, resampled_means

Floats = NDArray[np.float64]


def score_statistics(
    strata: Sequence[tuple[Floats, Floats]], *, confidence: float = 0.95
) -> dict[str, float]:
    """Score of an arm and what it retains of the baseline's, each with its interval.

    Args:
        strata: per stratum the scores of baseline and arm, [samples] each, over the same samples.
            Figures are means of the strata's means: one stratum gives the plain mean, one per task
            the macro average. Samples are drawn anew within their stratum, the same for both arms.
        confidence: of the intervals.

    Returns:
        `score` and `retained` (the ratio of the mean scores), each with `_low` and `_high`. All are
        NaN without samples, and `retained` is where the baseline's mean is 0.

    >>> ones = np.ones(4)
    >>> found = score_statistics([(ones, np.array([0.0, 1.0, 1.0, 0.0]))])
    >>> found["score"], found["retained"], found["retained_high"]
    (0.5, 0.5, 1.0)
    """
    if not strata:
        return dict.fromkeys(_NAMES, nan)
    pairs = [np.stack(stratum, axis=1) for stratum in strata]
    baseline, score = np.mean([stratum.mean(axis=0) for stratum in pairs], axis=0)
    draws = np.mean(
        [resampled_means(stratum, seed=index) for index, stratum in enumerate(pairs)], axis=0
    )
    ends = interval_ends(draws[:, 1], confidence)
    if baseline == 0:
        return dict(zip(_NAMES, (score, *map(float, ends), nan, nan, nan), strict=True))
    possible = draws[:, 0] > 0
    retained_ends = interval_ends(draws[possible, 1] / draws[possible, 0], confidence)
    figures = (score, *ends, score / baseline, *retained_ends)
    return dict(zip(_NAMES, map(float, figures), strict=True))


_NAMES = ("score", "score_low", "score_high", "retained", "retained_low", "retained_high")
