"""Overlap of a layer's most important tokens with the region, and with those of other layers."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tokenlens.measures.arrays import (
    importance_array,
    per_sample,
    plain_array,
    top_count,
    top_ranks,
)
from tokenlens.wording.suggest import one_of

Scores = NDArray[np.float64]


def _recall(importance: Scores, region: NDArray[np.bool_], top: float) -> Scores:
    """Share of the region's tokens that are among the most important share."""
    chosen = top_ranks(importance) < top_count(top, region.size)
    shares: NDArray[np.float64] = (chosen & region).sum(axis=1) / region.sum()
    return shares


def _iou(importance: Scores, region: NDArray[np.bool_], top: float) -> Scores:
    """Intersection over union of the region and the most important share."""
    chosen = top_ranks(importance) < top_count(top, region.size)
    shares: NDArray[np.float64] = (chosen & region).sum(axis=1) / (chosen | region).sum(axis=1)
    return shares


def _average_precision(importance: Scores, region: NDArray[np.bool_], _top: float) -> Scores:
    """Mean, over the region's tokens, of the precision at each one's rank."""
    ranks = np.sort(top_ranks(importance)[:, region], axis=1) + 1
    precisions: NDArray[np.float64] = (np.arange(1, ranks.shape[1] + 1) / ranks).mean(axis=1)
    return precisions


def _mass(importance: Scores, region: NDArray[np.bool_], _top: float) -> Scores:
    """Share of the importance of all visual tokens that lies in the region."""
    total = importance.sum(axis=1)
    inside = importance[:, region].sum(axis=1)
    shares: NDArray[np.float64] = np.divide(
        inside, total, out=np.zeros_like(total), where=total > 0
    )
    return shares


def _pointing(importance: Scores, region: NDArray[np.bool_], _top: float) -> Scores:
    """1 where the most important token is in the region, else 0 (the pointing game)."""
    hits: NDArray[np.float64] = region[importance.argmax(axis=1)].astype(np.float64)
    return hits


METRICS: Mapping[str, Callable[[Scores, NDArray[np.bool_], float], Scores]] = MappingProxyType(
    {
        "recall": _recall,
        "iou": _iou,
        "average_precision": _average_precision,
        "mass": _mass,
        "pointing": _pointing,
    }
)
"""Every metric takes importance [layers, n_visual], a region that is not empty, and a top share."""


def region_scores(
    importance: ArrayLike, region: ArrayLike, metric: str = "recall", top: float = 0.2
) -> NDArray[np.float64]:
    """Score of each layer of one sample for finding the region: float64 [layers], 0 to 1.

    Args:
        importance: [layers, n_visual].
        region: bool (or 0 and 1) [n_visual], at least one true.
        metric: "recall" or "iou" of the most important share `top` of the tokens,
            "average_precision" of the ranking, "mass" (share of the visual importance that is in
            the region), or "pointing" (1 where the most important token is in the region).
        top: the share of tokens for recall and IoU; the count is rounded half up, at least one.

    Ties go to the lower position, as in the engine.

    >>> region_scores([[0.1, 0.6, 0.3], [0.5, 0.1, 0.4]], [False, True, False], "mass").tolist()
    [0.6, 0.1]
    """
    array, inside = importance_array(importance), plain_array(region)
    if inside.shape != array.shape[1:] or not np.isin(inside, (0, 1)).all() or not inside.any():
        raise ValueError(
            f"region: got {inside.dtype} {inside.shape} with {np.count_nonzero(inside)} tokens, "
            f"expected true or false for each of the {array.shape[1]} visual tokens (a mask, no "
            "indices), true at least once"
        )
    inside = inside.astype(np.bool_)
    if metric not in METRICS:
        raise ValueError(f"metric: got {metric!r}, expected {one_of(metric, METRICS)}")
    return METRICS[metric](array, inside, top)


def region_overlap(
    importance: ArrayLike | Iterable[ArrayLike],
    regions: ArrayLike | Iterable[ArrayLike],
    *,
    metric: str = "recall",
    top: float = 0.2,
) -> NDArray[np.float64]:
    """Mean of `region_scores` over the samples whose region is not empty: float64 [layers].

    `importance` and `regions` are those of one sample, or iterables of the same length.
    """
    scores = [
        region_scores(sample, region, metric, top)
        for sample, region in zip(per_sample(importance), per_sample(regions, ndim=1), strict=True)
        if plain_array(region).any()
    ]
    if not scores:
        raise ValueError("regions: got none with a token, expected at least one")
    means: NDArray[np.float64] = np.mean(scores, axis=0)
    return means


def shallow_deep_overlap(
    importance: ArrayLike | Iterable[ArrayLike], bottom: float = 0.5, top: float = 0.1
) -> NDArray[np.float64]:
    """Overlap of one layer's least and another's most important tokens (SwiftVLM, Fig. 2).

    Returns float64 [layers, layers]: at [i, j] the share of layer j's `top` tokens that are in
    layer i's `bottom` share, mean over samples (SwiftVLM is arXiv 2602.03134).

    >>> shallow_deep_overlap([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]], top=0.25).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    shares = []
    for sample in per_sample(importance):
        ranks = top_ranks(importance_array(sample))
        wanted = ranks < top_count(top, ranks.shape[1])
        thrown = ranks >= ranks.shape[1] - top_count(bottom, ranks.shape[1])
        shares.append((thrown.astype(np.float64) @ wanted.T) / wanted[0].sum())
    if not shares:
        raise ValueError("importance: got no sample, expected at least one")
    means: NDArray[np.float64] = np.mean(shares, axis=0)
    return means
