"""Agreement: the share of answers that equal the unpruned model's.

It needs no ground truth, so it replaces the score where samples have none. Two answers agree where
they are equal after `metrics.normalise` (case, extra spaces and outer punctuation are ignored),
whatever the metric of the sample: a box agrees only with the same box.
"""

from collections.abc import Sequence
from math import nan

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tokenlens.evaluation.metrics.sample_metrics import normalise
from tokenlens.measures.intervals import Resampled

NAMES = ("agreement", "agreement_low", "agreement_high")


def agreement(predictions: pd.Series, reference: pd.Series) -> pd.Series:
    """1.0 for every prediction that agrees with the reference, else 0.0, matched by their index.

    >>> agreement(pd.Series(["Red.", "two"]), pd.Series(["red", "three"])).to_list()
    [1.0, 0.0]
    """
    return (predictions.map(normalise) == reference.map(normalise)).astype(float)


def rows_agreement(rows: pd.DataFrame, reference: pd.DataFrame) -> pd.Series:
    """`agreement` of the rows of two results; NaN where they do not hold the answers."""
    if "prediction" not in rows or "prediction" not in reference:
        return pd.Series(nan, index=rows.index)
    return agreement(rows["prediction"], reference["prediction"])


def agreement_statistics(
    strata: Sequence[NDArray[np.float64]], arms: int
) -> list[dict[str, float]]:
    """Per arm the mean of the strata's means and its 95 % bootstrap interval, under `NAMES`.

    Args:
        strata: per stratum the agreement [samples, arms] of every arm over the same samples.
        arms: number of arms.

    Returns:
        All values are NaN where any agreement is unknown.
    """
    if not all(np.isfinite(stratum).all() for stratum in strata):
        return [dict.fromkeys(NAMES, nan)] * arms
    drawn = Resampled.of(strata)
    return [dict(zip(NAMES, map(float, drawn[arm].interval()), strict=True)) for arm in range(arms)]


def unscored_tasks(rows: pd.DataFrame) -> list[str]:
    """Tasks in which no sample has ground truth, from the rows of a result."""
    scored = rows["score"].notna().groupby(rows["task"], sort=False).any()
    return [str(task) for task, has_any in scored.items() if not has_any]


def scores_or_agreement(table: pd.DataFrame) -> pd.DataFrame:
    """A copy of a comparison's table in which agreement replaces missing scores."""
    filled = table.copy()
    for score, own in zip(("score", "score_low", "score_high"), NAMES, strict=True):
        filled[score] = filled[score].fillna(filled[own])
    return filled


def scoring_note(rows: pd.DataFrame) -> str:
    """A sentence on what is measured where samples lack ground truth; empty where none does."""
    without = int(rows["score"].isna().sum())
    if not without:
        return ""
    if without == len(rows):
        return (
            "No sample is scored: agreement, the share of answers that are the unpruned "
            "model's own, stands in for the score"
        )
    return (
        f"{without} of {len(rows)} samples are not scored: scores are of the others, "
        "agreement with the unpruned model's own answers is of all"
    )


def reference_note(rows: pd.DataFrame) -> str:
    """A sentence on the tasks that are measured by agreement; empty where all have scores."""
    tasks = unscored_tasks(rows)
    if not tasks:
        return ""
    return (
        f"No scores in {', '.join(tasks)}: the unpruned model's own answers are taken as "
        "right there"
    )
