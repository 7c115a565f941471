"""Criteria: what makes one layer's choice of tokens better than another's.

Every criterion scores the layers of one profiled sample that has a region. A layer's capability x_i
is the mean over tasks of the mean over samples, each task's scores divided by its best layer's, so
that an easy task weighs no more than a hard one (SwiftVLM, arXiv 2602.03134, §3.2, normalises per
data set in the same way).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tokenlens.errors import SelectionError
from tokenlens.measures.correlation import sample_rank_correlation
from tokenlens.measures.intervals import Interval, interval_ends, resampled_means
from tokenlens.measures.overlap import region_scores
from tokenlens.suggest import one_of

Array = NDArray[np.float64]

CRITERIA: Mapping[str, Callable[[Any, Any], Array]] = MappingProxyType(
    {
        "region": partial(region_scores, metric="recall"),
        "average-precision": partial(region_scores, metric="average_precision"),
        "mass": partial(region_scores, metric="mass"),
        "pointing": partial(region_scores, metric="pointing"),
    }
)
"""Each takes a sample's importance [layers, n_visual] and region bool [n_visual], and gives float64
[layers]. "region" is the recall of region tokens in the top 20 %."""


class Row(Protocol):
    """What is read of a profiled sample."""

    @property
    def task(self) -> str:
        """The kind of question."""

    @property
    def importance(self) -> Any:
        """[layers, n_visual]."""

    @property
    def boxes(self) -> Any:
        """[n_visual, 4]; not-a-number where it is not known what a token covers."""

    @property
    def region(self) -> Any:
        """Bool [n_visual]."""


@dataclass(frozen=True)
class Evidence:
    """What one pass over a profile says of its layers.

    Attributes:
        scores: per task, float64 [samples with a region, layers].
        correlation: float64 [layers, layers], mean rank correlation over all samples.
        n_visual: visual tokens of each sample, int64 [samples].
    """

    scores: dict[str, Array]
    correlation: Array
    n_visual: NDArray[np.int64]


def gather_evidence(rows: Iterable[Row], criterion: str) -> Evidence:
    """Read a profile once, one sample in memory at a time.

    Raises `SelectionError` for an unknown criterion, where no sample has a region, and where it is
    not known what the visual tokens cover.
    """
    if criterion not in CRITERIA:
        raise SelectionError(
            f"criterion: got {criterion!r}, expected {one_of(criterion, CRITERIA)}"
        )
    score = CRITERIA[criterion]
    scores: dict[str, list[Array]] = {}
    correlation: Array | None = None
    n_visual: list[int] = []
    for row in rows:
        if np.isnan(row.boxes).any():
            raise SelectionError(
                f"criterion {criterion!r} compares importance with regions, and what the visual "
                "tokens of this profile cover is not known: its model's family has no adapter (see "
                "`tokenlens models`); choose the layers yourself in a schedule"
            )
        matrix = sample_rank_correlation(row.importance)
        correlation = matrix if correlation is None else correlation + matrix
        n_visual.append(len(row.region))
        if np.asarray(row.region).any():
            scores.setdefault(row.task, []).append(score(row.importance, row.region))
    if correlation is None or not scores:
        raise SelectionError(
            f"criterion {criterion!r} compares importance with regions, and none of the "
            f"{len(n_visual)} profiled samples has one; give boxes or polygons in the manifest"
        )
    return Evidence(
        scores={task: np.stack(values) for task, values in sorted(scores.items())},
        correlation=correlation / len(n_visual),
        n_visual=np.asarray(n_visual, dtype=np.int64),
    )


def layer_scores(
    scores: Mapping[str, Array],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The capability x_i of each layer, with a bootstrap interval: three float64 [layers].

    Args:
        scores: per task, float64 [samples, layers].
        confidence: see `bootstrap_interval`.
        resamples: see `bootstrap_interval`; samples are drawn within their task.
        seed: see `bootstrap_interval`.

    A task in which no layer scores counts 0. The interval takes each task's best score as given.

    >>> mean, _, _ = layer_scores({"easy": np.array([[0.5, 1.0]]), "hard": np.array([[0.1, 0.1]])})
    >>> mean.tolist()
    [0.75, 1.0]
    """
    means, draws = [], []
    for index, values in enumerate(scores.values()):
        best = values.mean(axis=0).max()
        scaled = values / best if best > 0 else values
        means.append(scaled.mean(axis=0))
        draws.append(resampled_means(scaled, resamples=resamples, seed=(seed, index)))
    return np.mean(means, axis=0), *interval_ends(np.mean(draws, axis=0), confidence)
