"""Spearman rank correlation between layers: how similarly they rank a sample's visual tokens."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

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

    Ties get their average rank, as in Spearman's correlation. A layer in which all tokens are
    equal has correlation 0 with every other, where it is not defined.
    """
    ranks = _ranks(importance_array(importance))
    ranks -= ranks.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(ranks, axis=1, keepdims=True)
    directions = np.divide(ranks, lengths, out=np.zeros_like(ranks), where=lengths > 0)
    correlation: NDArray[np.float64] = np.clip(directions @ directions.T, -1.0, 1.0)
    np.fill_diagonal(correlation, 1.0)
    return correlation


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks of a row's values from 1, equal ones with their mean rank: float64 [rows, n].

    >>> _ranks(np.array([[0.5, 0.1, 0.5, 0.9]])).tolist()
    [[2.5, 1.0, 2.5, 4.0]]
    """
    order = values.argsort(axis=1)
    sorted_values = np.take_along_axis(values, order, axis=1)
    differs = sorted_values[:, 1:] != sorted_values[:, :-1]
    places = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    ends = np.ones((len(values), 1), dtype=bool)
    first = np.where(np.hstack([ends, differs]), places, 0)
    last = np.where(np.hstack([differs, ends]), places, values.shape[1])
    first = np.maximum.accumulate(first, axis=1)
    last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=1)
    return ranks
