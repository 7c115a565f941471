"""Criteria: scores of how well each layer selects tokens.

The criteria in `CRITERIA` score the layers of one profiled sample that has a region. A layer's
capability x_i is the mean over tasks of the mean over samples, each task's scores divided by its
best layer's, so that an easy task weighs no more than a hard one (SwiftVLM, arXiv 2602.03134, §3.2,
normalises per data set in the same way).

The paper's own criterion, `CAPABILITY`, is not computed from a profile: it is the score of answers
from each layer's selected tokens, measured by `tokenlens.evaluation.capability`. Each task's scores
are divided by the unpruned model's.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tokenlens.errors import SelectionError
from tokenlens.measures.correlation import sample_rank_correlation
from tokenlens.measures.intervals import Interval, interval_ends, resampled_means
from tokenlens.measures.overlap import region_scores
from tokenlens.selection.criterion_names import CAPABILITY, MEASURED, check_criterion
from tokenlens.wording.cautions import pictures_named

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
    """The values of a profiled sample that selection reads."""

    @property
    def task(self) -> str:
        """The kind of question."""

    @property
    def importance(self) -> Any:
        """[layers, n_visual]."""

    @property
    def boxes(self) -> Any:
        """[n_visual, 4]; NaN where the box of a token is not known."""

    @property
    def region(self) -> Any:
        """Bool [n_visual]."""


@dataclass(frozen=True)
class Capability:
    """Scores of a model's answers from each layer's selected tokens.

    Attributes:
        scores: per task, float64 [samples with ground truth, layers].
        unpruned: per task, the unpruned model's mean score over the same samples, above 0.
        data: data set of the samples.
        left_out: tasks in which the unpruned model scores 0, so that relative scores are undefined.
        criterion: `CAPABILITY`, or `AGREEMENT` where the scores are agreements.
    """

    scores: Mapping[str, Array]
    unpruned: Mapping[str, float]
    data: str
    left_out: tuple[str, ...] = ()
    criterion: str = CAPABILITY

    @property
    def layers(self) -> int:
        """The number of scored layers."""
        layers: int = next(iter(self.scores.values())).shape[1]
        return layers


@dataclass(frozen=True)
class Evidence:
    """Scores and statistics of a profile's layers.

    Attributes:
        scores: per task, float64 [scored samples, layers].
        whole: per task the mean score that counts as 1; None where it is the best layer's.
        correlation: float64 [layers, layers], mean rank correlation over all samples.
        n_visual: visual tokens of each sample, int64 [samples].
        images: path of each sample's picture; empty for one in memory.
        whole_regions: samples whose region covers every visual token.
    """

    scores: Mapping[str, Array]
    whole: Mapping[str, float] | None
    correlation: Array
    n_visual: NDArray[np.int64]
    images: tuple[str, ...] = ()
    whole_regions: int = 0


def gather_evidence(rows: Iterable[Row], criterion: str | Capability) -> Evidence:
    """Read a profile once, one sample in memory at a time.

    Args:
        rows: rows of the profile.
        criterion: one of `CRITERIA`, or a measured capability; the correlation between layers comes
            from the profile in both cases.

    Raises:
        SelectionError: an unknown criterion, no sample with a region, visual tokens without known
            boxes, or a capability of another number of layers.
    """
    if isinstance(criterion, Capability):
        read = _read(rows, None)
        if read.correlation.shape[0] != criterion.layers:
            raise SelectionError(
                f"capability: got scores of {criterion.layers} layers, expected those of the "
                f"profile's {read.correlation.shape[0]}; measure it on the profile's own model"
            )
        return replace(read, scores=criterion.scores, whole=criterion.unpruned, whole_regions=0)
    check_criterion(criterion)
    if criterion in MEASURED:
        home = "capability" if criterion == CAPABILITY else "information"
        raise SelectionError(
            f"criterion {criterion!r} is measured by running the model: run `tokenlens "
            f"select-layers --criterion {criterion}`, or from Python use "
            f"tokenlens.evaluation.{home}"
        )
    return _read(rows, criterion)


def _read(rows: Iterable[Row], criterion: str | None) -> Evidence:
    """Correlation, visual tokens per sample, and, where a criterion is named, its scores."""
    scores: dict[str, list[Array]] = {}
    correlation: Array | None = None
    n_visual: list[int] = []
    images: list[str] = []
    whole_regions = 0
    for row in rows:
        images.append(pictures_named(getattr(row, "image", ""), getattr(row, "more_images", ())))
        if criterion is not None and np.isnan(row.boxes).any():
            raise SelectionError(
                f"criterion {criterion!r} compares importance with regions, and what the visual "
                "tokens of this profile cover is not known: its model's family has no adapter (see "
                "`tokenlens models`); choose the layers yourself in a schedule"
            )
        matrix = sample_rank_correlation(row.importance)
        correlation = matrix if correlation is None else correlation + matrix
        n_visual.append(len(row.region))
        if criterion is not None and np.asarray(row.region).any():
            score = CRITERIA[criterion](row.importance, row.region)
            scores.setdefault(row.task, []).append(score)
            whole_regions += bool(np.asarray(row.region).all())
    if correlation is None:
        raise SelectionError("the profile has no samples; make one with `tokenlens profile`")
    if criterion is not None and not scores:
        raise SelectionError(
            f"criterion {criterion!r} compares importance with regions, and none of the "
            f"{len(n_visual)} profiled samples has one that covers a visual token; give boxes or "
            "polygons in the manifest"
        )
    return Evidence(
        scores={task: np.stack(values) for task, values in sorted(scores.items())},
        whole=None,
        correlation=correlation / len(n_visual),
        n_visual=np.asarray(n_visual, dtype=np.int64),
        images=tuple(images),
        whole_regions=whole_regions,
    )


def layer_scores(
    scores: Mapping[str, Array],
    whole: Mapping[str, float] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The capability x_i of each layer, with a bootstrap interval: three float64 [layers].

    Args:
        scores: per task, float64 [samples, layers].
        whole: per task the mean score that counts as 1; the best layer's where it is not given.
        confidence: see `bootstrap_interval`.
        resamples: see `bootstrap_interval`; samples are resampled within their task.
        seed: see `bootstrap_interval`.

    A task in which every layer scores 0 counts as 0. The interval treats the score that counts as 1
    as fixed.

    >>> mean, _, _ = layer_scores({"easy": np.array([[0.5, 1.0]]), "hard": np.array([[0.1, 0.1]])})
    >>> mean.tolist()
    [0.75, 1.0]
    """
    means, draws = [], []
    for index, (task, values) in enumerate(scores.items()):
        one = values.mean(axis=0).max() if whole is None else whole[task]
        scaled = values / one if one > 0 else values
        means.append(scaled.mean(axis=0))
        draws.append(resampled_means(scaled, resamples=resamples, seed=(seed, index)))
    return np.mean(means, axis=0), *interval_ends(np.mean(draws, axis=0), confidence)
