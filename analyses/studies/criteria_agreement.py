"""Do criteria agree on which layers select well? Spearman's correlation between their scores.

It is computed between every two criteria, from the capability x_i of the layers that can be chosen
(3 and deeper). The interval comes from resampling the samples within their task, with the same draw
for all criteria.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tokenlens.evaluation.capability import rerun_scores
from tokenlens.measures.correlation import sample_rank_correlation
from tokenlens.measures.intervals import interval_ends, resampled_means
from tokenlens.selection.criteria import CRITERIA
from tokenlens.selection.criterion_names import CAPABILITY
from tokenlens.selection.layers import FIRST_LAYER

from .paired_difference import markdown_table

if TYPE_CHECKING:
    from tokenlens.evaluation.comparing.comparison import Comparison
    from tokenlens.probing.profile import Profile

Floats = NDArray[np.float64]
NAMES = (*CRITERIA, CAPABILITY)


@dataclass(frozen=True)
class Drawn:
    """Scores of the layers by every criterion of `NAMES`, also for resampled samples.

    Attributes:
        samples: number of samples that were both profiled and run again.
        scores: the capability x_i, float64 [criteria, layers].
        draws: the same for samples resampled within their task, [draws, criteria, layers].
    """

    samples: int
    scores: Floats
    draws: Floats


def draw(profile: Profile, reruns: Comparison) -> Drawn:
    """Score the layers by every criterion, and by every criterion again on drawn samples.

    Args:
        profile: importance and regions.
        reruns: result of `tokenlens.evaluation.capability.measure`.

    What counts as 1 in a task (the best layer's mean, or the unpruned model's) is taken as given,
    as in `tokenlens.selection.criteria.layer_scores`.
    """
    scores = sample_scores(profile, reruns)
    whole = rerun_scores(reruns).groupby("task")["unpruned"].mean()
    means, draws = [], []
    for index, (task, values) in enumerate(scores.items()):
        mean = np.nanmean(values, axis=0)
        one = np.fmax.reduce(mean, axis=1, keepdims=True)
        one[NAMES.index(CAPABILITY)] = whole[task]
        one[one == 0] = np.nan
        means.append(mean / one)
        draws.append(_resampled(values, index) / one)
    samples = sum(map(len, scores.values()))
    return Drawn(samples, np.nanmean(means, axis=0), np.nanmean(draws, axis=0))


def compute(drawn: Drawn) -> pd.DataFrame:
    """The agreement of every two criteria.

    Returns:
        Columns `criterion`, `other`, `samples`, `spearman`, and `low` and `high`, the ends of its
        95 % bootstrap interval.
    """
    point = _spearman(drawn.scores)
    low, high = interval_ends(np.stack([_spearman(scores) for scores in drawn.draws]), 0.95)
    return pd.DataFrame(
        {
            "criterion": NAMES[first],
            "other": NAMES[second],
            "samples": drawn.samples,
            "spearman": point[first, second],
            "low": low[first, second],
            "high": high[first, second],
        }
        for first, second in combinations(range(len(NAMES)), 2)
    )


def sample_scores(profile: Profile, reruns: Comparison) -> dict[str, Floats]:
    """Every criterion's scores, float64 [samples, criteria, layers] per task.

    Criteria are in the order of `NAMES`; NaN where a sample has no region to score by.
    """
    answered = rerun_scores(reruns).drop(columns=["task", "unpruned"])
    scores: dict[str, list[Floats]] = {}
    for row in profile.rows():
        if row.id in answered.index:
            nothing = np.full(profile.layers, np.nan)
            cheap = [
                score(row.importance, row.region) if row.region.any() else nothing
                for score in CRITERIA.values()
            ]
            scores.setdefault(row.task, []).append(np.stack([*cheap, answered.loc[row.id]]))
    return {task: np.stack(values) for task, values in scores.items()}


def _resampled(values: Floats, index: int) -> Floats:
    """Means over the scored samples of each draw: float64 [draws, criteria, layers]."""
    known = ~np.isnan(values)
    sums = resampled_means(np.where(known, values, 0.0), seed=(0, index))
    shares = resampled_means(known.astype(np.float64), seed=(0, index))
    return np.divide(sums, shares, out=np.full_like(sums, np.nan), where=shares > 0)


def _spearman(capability: Floats) -> Floats:
    """Correlation over the layers that can be chosen: [criteria, layers] to a square matrix."""
    return sample_rank_correlation(capability[:, FIRST_LAYER - 1 :])


def markdown(table: pd.DataFrame, names: Collection[str] = NAMES) -> str:
    """A row per pair of criteria among `names`."""
    rows = [
        [
            f"{row.criterion} and {row.other}",
            str(row.samples),
            f"{row.spearman:.2f} [{row.low:.2f}, {row.high:.2f}]",
        ]
        for row in table.itertuples()
        if {row.criterion, row.other} <= set(names)
    ]
    return markdown_table(["criteria", "samples", "Spearman of their scores"], rows)
