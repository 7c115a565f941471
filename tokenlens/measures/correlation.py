"""Spearman rank correlation between layers: how similarly they rank a sample's visual tokens."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from tokenlens.measures.arrays import importance_array, per_sample


def rank_correlation(importance: ArrayLike | Iterable[ArrayLike]) -> NDArray[np.float64]:
    """Mean over samples of the rank correlation between layers.

    Args:
        importance: one [layers, n_visual] array, or an iterable of them, which is consumed one by
            one; n_visual may differ between samples.

    Returns:
        float64 [layers, layers], symmetric with a diagonal of 1.

    >>> rank_correlation([[0.1, 0.2, 0.3], [3.0, 2.0, 1.0]]).round(6).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    total: NDArray[np.float64] | None = None
    count = 0
    for sample in per_sample(importance):
        matrix = sample_rank_correlation(sample)
        total = matrix if total is None else total + matrix
        count += 1
    if total is None:
        raise ValueError("importance: got no sample, expected at least one")
    return total / count


def sample_rank_correlation(importance: ArrayLike) -> NDArray[np.float64]:
    """The same for one sample: float64 [layers, layers].

    Ties get their average rank, as in `scipy.stats.spearmanr`. A layer in which all tokens are
    equal has correlation 0 with every other, where scipy gives NaN.
    """
    ranks = rankdata(importance_array(importance), axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(ranks, axis=1, keepdims=True)
    directions = np.divide(ranks, lengths, out=np.zeros_like(ranks), where=lengths > 0)
    correlation: NDArray[np.float64] = np.clip(directions @ directions.T, -1.0, 1.0)
    np.fill_diagonal(correlation, 1.0)
    return correlation
