"""Bootstrap confidence intervals of means over samples.

Percentile intervals (Efron & Tibshirani, 1993, ch. 13) of means over resampled samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Mean, low end and high end, each of the shape of one sample's value."""

_DRAWS_AT_ONCE = 1 << 22
_KEPT_DRAWS = 1 << 25
"""Bytes at most, usually, of one set of draws that is kept for the next figure."""


@dataclass(frozen=True)
class Resampled:
    """Means over samples, and over bootstrap resamples of them.

    Where samples come in strata, both are means of the strata's means, and samples are resampled
    within their stratum. Values of the same samples, along the axes after the first, are resampled
    together, so that their differences and ratios are paired.

    Attributes:
        mean: [...], the mean over the samples, of the shape of one sample's value.
        draws: [resamples, ...], the mean over each resample.
    """

    mean: NDArray[np.float64]
    draws: NDArray[np.float64]

    @classmethod
    def of(cls, strata: Sequence[ArrayLike], *, resamples: int = 2000, seed: int = 0) -> Self:
        """Resample strata of [samples, ...] each, finite; at least one with at least one sample."""
        arrays = [_samples(stratum) for stratum in strata]
        draws = [
            resampled_means(array, resamples=resamples, seed=seed + index)
            for index, array in enumerate(arrays)
        ]
        return cls(
            np.mean([array.mean(axis=0) for array in arrays], axis=0), np.mean(draws, axis=0)
        )

    def __getitem__(self, place: int) -> "Resampled":
        """The value at an index of the mean's first axis, with its draws."""
        return Resampled(self.mean[place], self.draws[:, place])

    def __sub__(self, other: "Resampled") -> "Resampled":
        """The difference, with its draws; `other` was resampled together with this."""
        return Resampled(self.mean - other.mean, self.draws - other.draws)

    def __truediv__(self, baseline: "Resampled") -> "Resampled":
        """The ratio, with its draws; NaN where the baseline's mean, or a draw of it, is 0."""
        ratio = _ratio(baseline.mean, self.mean)
        draws = _ratio(baseline.draws, self.draws)
        return Resampled(ratio, np.where(np.isnan(ratio), np.nan, draws))

    def interval(self, confidence: float = 0.95) -> Interval:
        """Mean, low and high end; draws that are NaN are left out."""
        none = np.isnan(self.mean)
        ends = interval_ends(np.where(none, 0.0, self.draws), confidence)
        low, high = (np.where(none, np.nan, end)[()] for end in ends)
        return self.mean[()], low, high


def bootstrap_interval(
    values: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean over samples and its confidence interval.

    Args:
        values: [samples, ...], finite.
        confidence: share of the resampled means that lie within the interval.
        resamples: number of bootstrap resamples.
        seed: the same seed gives the same interval.

    With one sample the interval is its value alone: nothing is known of other samples.

    >>> mean, low, high = bootstrap_interval([0.0, 1.0, 1.0, 0.0])
    >>> float(mean), float(low), float(high)
    (0.5, 0.0, 1.0)
    """
    return Resampled.of([values], resamples=resamples, seed=seed).interval(confidence)


def paired_difference_interval(
    baseline: ArrayLike,
    other: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean of `other - baseline` over the same samples, [samples, ...] each, and its interval."""
    drawn = Resampled.of([_pairs(baseline, other)], resamples=resamples, seed=seed)
    return (drawn[1] - drawn[0]).interval(confidence)


def paired_ratio_interval(
    baseline: ArrayLike,
    other: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Share of `baseline` that `other` retains: the ratio of their means, and its interval.

    The same samples are drawn for both, [samples, ...] each. NaN where the mean of `baseline` is 0;
    draws in which it is 0 are left out of the interval.
    """
    drawn = Resampled.of([_pairs(baseline, other)], resamples=resamples, seed=seed)
    return (drawn[1] / drawn[0]).interval(confidence)


def resampled_means(
    values: NDArray[np.float64], *, resamples: int = 2000, seed: int | Sequence[int] = 0
) -> NDArray[np.float64]:
    """Means over `resamples` draws, with replacement, of as many samples: [resamples, ...].

    `values` is [samples, ...]. The draws depend only on the seed (one number or several) and on the
    number of samples.
    """
    flat = values.reshape(len(values), -1)
    step = max(1, _DRAWS_AT_ONCE // len(values))
    own = tuple(seed) if isinstance(seed, Sequence) else (seed,)
    known = len(values) * resamples <= _KEPT_DRAWS
    draw = _kept_draws if known else _draws
    means = [times.astype(float) @ flat for times in draw(len(values), resamples, own, step)]
    return np.concatenate(means).reshape(resamples, *values.shape[1:]) / len(values)


def _draws(
    samples: int, resamples: int, seed: tuple[int, ...], step: int
) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
    """How often each resample holds each sample: [resamples, samples], some resamples at a time."""
    rng = np.random.default_rng(seed[0] if len(seed) == 1 else seed)
    chances = np.full(samples, 1 / samples)
    for start in range(0, resamples, step):
        times = rng.multinomial(samples, chances, size=min(step, resamples - start))
        yield times.astype(np.min_scalar_type(times.max()))


@lru_cache(maxsize=16)
def _kept_draws(
    samples: int, resamples: int, seed: tuple[int, ...], step: int
) -> tuple[NDArray[np.unsignedinteger[Any]], ...]:
    """The same, kept: many figures are resampled over the same samples."""
    return tuple(_draws(samples, resamples, seed, step))


def interval_ends(
    means: NDArray[np.float64], confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high end of the middle share `confidence` of `means` [draws, ...]."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: got {confidence!r}, expected a share in (0, 1)")
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(means, [tail, 100 - tail], axis=0)
    return low, high


def _samples(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or len(array) == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"values: got shape {array.shape}, expected finite numbers in [samples, ...], at least "
            "one sample"
        )
    return array


def _pairs(baseline: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    first, second = _samples(baseline), _samples(other)
    if first.shape != second.shape:
        raise ValueError(
            f"other: got shape {second.shape}, expected the baseline's {first.shape}: the same "
            "samples in the same order"
        )
    return np.stack([first, second], axis=1)


def _ratio(baseline: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ratio; NaN where the baseline is 0."""
    nothing = np.full(np.shape(other), np.nan)
    shares: NDArray[np.float64] = np.divide(
        other, baseline, out=nothing, where=np.asarray(baseline) != 0
    )
    return shares
