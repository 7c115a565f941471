"""Correlation, overlap and intervals, against plain renderings of their definitions."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import spearmanr

from tokenlens.measures.correlation import rank_correlation, sample_rank_correlation
from tokenlens.measures.intervals import (
    bootstrap_interval,
    paired_difference_interval,
    paired_ratio_interval,
    resampled_means,
)
from tokenlens.measures.overlap import METRICS, region_overlap, region_scores, shallow_deep_overlap


def maps(tied: bool = False) -> st.SearchStrategy[np.ndarray]:
    """Importance [layers, n_visual] of one sample, with or without many ties."""
    values = st.sampled_from([0.0, 0.25, 0.5]) if tied else st.floats(0, 1, width=32)
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12)
    return hnp.arrays(np.float32, shapes, elements=values)


any_map = st.booleans().flatmap(maps)


@st.composite
def maps_with_regions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    importance = draw(any_map)
    n_visual = importance.shape[1]
    region = draw(hnp.arrays(np.bool_, n_visual))
    region[draw(st.integers(0, n_visual - 1))] = True
    return importance, region


@given(any_map)
def test_correlation_is_scipys(importance):
    got = sample_rank_correlation(importance)
    for i, first in enumerate(importance):
        for j, second in enumerate(importance):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = spearmanr(first, second).statistic
            if math.isnan(expected):
                expected = float(i == j)
            assert got[i, j] == pytest.approx(expected, abs=1e-12)


@given(any_map, st.randoms(use_true_random=False))
def test_correlation_does_not_know_the_order_of_tokens(importance, random):
    order = list(range(importance.shape[1]))
    random.shuffle(order)
    np.testing.assert_allclose(
        sample_rank_correlation(importance),
        sample_rank_correlation(importance[:, order]),
        atol=1e-12,
    )


def test_correlation_is_the_mean_over_samples_however_they_come():
    rng = np.random.default_rng(0)
    samples = [rng.random((5, n)).astype(np.float32) for n in (4, 9, 30)]
    expected = np.mean([sample_rank_correlation(sample) for sample in samples], axis=0)
    np.testing.assert_array_equal(rank_correlation(iter(samples)), expected)
    np.testing.assert_array_equal(rank_correlation([torch.tensor(s) for s in samples]), expected)
    alone = sample_rank_correlation(samples[0])
    for one in (samples[0], samples[0].tolist(), torch.tensor(samples[0]), samples[:1]):
        np.testing.assert_array_equal(rank_correlation(one), alone)
    assert rank_correlation(samples).dtype == np.float64


@pytest.mark.parametrize(
    "importance",
    [[], np.zeros((2, 0)), [np.zeros((2, 2, 2))], [[[0.1, math.nan]]], [np.zeros((1, 2, 3))]],
)
def test_correlation_refuses_what_is_no_importance(importance):
    with pytest.raises(ValueError, match="importance"):
        rank_correlation(importance)


def plain_top(row: np.ndarray, share: float) -> set[int]:
    count = max(1, math.floor(share * len(row) + 0.5))
    return set(sorted(range(len(row)), key=lambda token: (-row[token], token))[:count])


def plain_score(row: np.ndarray, region: set[int], metric: str, top: float) -> float:
    chosen = plain_top(row, top)
    if metric == "recall":
        return len(chosen & region) / len(region)
    if metric == "iou":
        return len(chosen & region) / len(chosen | region)
    if metric == "mass":
        total = sum(map(float, row))
        return sum(float(row[token]) for token in region) / total if total else 0.0
    order = sorted(range(len(row)), key=lambda token: (-row[token], token))
    if metric == "pointing":
        return float(order[0] in region)
    precisions = [
        len(set(order[: place + 1]) & region) / (place + 1)
        for place, token in enumerate(order)
        if token in region
    ]
    return sum(precisions) / len(precisions)


@given(maps_with_regions(), st.sampled_from(sorted(METRICS)), st.sampled_from([0.05, 0.2, 0.5, 1]))
def test_region_scores_are_the_plain_ones(sample, metric, top):
    importance, region = sample
    got = region_scores(importance, region, metric, top)
    inside = set(np.flatnonzero(region).tolist())
    expected = [plain_score(row, inside, metric, top) for row in importance]
    np.testing.assert_allclose(got, expected, atol=1e-9)
    assert ((got >= 0) & (got <= 1)).all()


def test_region_overlap_leaves_out_samples_without_a_region():
    rng = np.random.default_rng(0)
    importance = [rng.random((3, n)) for n in (5, 8, 13)]
    regions = [np.arange(5) == 2, np.zeros(8, dtype=bool), np.arange(13) < 4]
    got = region_overlap(importance, [torch.tensor(region) for region in regions], metric="mass")
    expected = [region_scores(importance[i], regions[i], "mass") for i in (0, 2)]
    np.testing.assert_array_equal(got, np.mean(expected, axis=0))
    alone = region_overlap(importance[0], regions[0], metric="mass")
    np.testing.assert_array_equal(alone, expected[0])
    with pytest.raises(ValueError, match="regions"):
        region_overlap(importance[1:2], regions[1:2])


def test_region_scores_refuse_other_regions_and_metrics():
    importance = np.ones((2, 4))
    for region in ([True] * 3, [False] * 4, [2, 0, 0, 0]):
        with pytest.raises(ValueError, match="region"):
            region_scores(importance, region)
    with pytest.raises(ValueError, match="did you mean 'recall'"):
        region_scores(importance, [True] * 4, "recal")
    with pytest.raises(ValueError, match="top"):
        region_scores(importance, [True] * 4, top=20)


@given(st.lists(any_map, min_size=1, max_size=3), st.sampled_from([0.1, 0.3]))
def test_shallow_deep_overlap_is_the_plain_one(samples, top):
    layers = min(len(sample) for sample in samples)
    samples = [sample[:layers] for sample in samples]
    got = shallow_deep_overlap(samples, top=top)
    for i in range(layers):
        for j in range(layers):
            shares = []
            for sample in samples:
                n_visual = sample.shape[1]
                low = max(1, math.floor(0.5 * n_visual + 0.5))
                order = sorted(
                    range(n_visual), key=lambda token, row=sample[i]: (-row[token], token)
                )
                wanted = plain_top(sample[j], top)
                shares.append(len(wanted & set(order[-low:])) / len(wanted))
            assert got[i, j] == pytest.approx(np.mean(shares))


values_2d = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    elements=st.floats(-10, 10),
)


@given(values_2d)
@settings(max_examples=30)
def test_interval_holds_between_the_extremes_and_repeats(values):
    mean, low, high = bootstrap_interval(values, resamples=200)
    assert (low <= high).all()
    assert (low >= values.min(axis=0) - 1e-9).all()
    assert (high <= values.max(axis=0) + 1e-9).all()
    np.testing.assert_allclose(mean, values.mean(axis=0))
    again = bootstrap_interval(values, resamples=200)
    np.testing.assert_array_equal(np.stack(again), np.stack([mean, low, high]))


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    worlds = rng.normal(3.0, 1.0, size=(60, 400))
    _, low, high = bootstrap_interval(worlds, resamples=500)
    covered = ((low <= 3.0) & (high >= 3.0)).mean()
    assert 0.90 <= covered <= 0.98


def test_draws_are_means_of_samples_and_do_not_depend_on_the_chunks(monkeypatch):
    values = np.random.default_rng(0).random((7, 2))
    whole = resampled_means(values, resamples=50)
    monkeypatch.setattr("tokenlens.measures.intervals._DRAWS_AT_ONCE", 20)
    np.testing.assert_array_equal(resampled_means(values, resamples=50), whole)
    monkeypatch.setattr("tokenlens.measures.intervals._KEPT_DRAWS", 0)  # draws are made anew
    np.testing.assert_array_equal(resampled_means(values, resamples=50), whole)
    assert not np.array_equal(resampled_means(values, resamples=50, seed=1), whole)  # the control
    counts = resampled_means(np.eye(7), resamples=50) * 7
    np.testing.assert_allclose(counts, counts.round(), atol=1e-12)
    np.testing.assert_allclose(whole, counts @ values / 7)


def test_ratio_is_paired():
    baseline = np.random.default_rng(0).random(50)
    ratio, low, high = paired_ratio_interval(baseline, 0.5 * baseline)
    assert [float(ratio), float(low), float(high)] == pytest.approx([0.5, 0.5, 0.5])
    _, low, high = paired_ratio_interval(baseline, np.roll(baseline, 7))
    assert high - low > 0.1, "unrelated samples must not look paired"


def test_difference_is_paired():
    baseline = np.random.default_rng(0).random((50, 3))
    difference, low, high = paired_difference_interval(baseline, baseline + 0.25)
    for part in (difference, low, high):
        np.testing.assert_allclose(part, 0.25)


def test_nothing_is_retained_of_nothing():
    ratio, low, high = paired_ratio_interval([0.0, 0.0], [1.0, 0.0])
    assert np.isnan([ratio, low, high]).all()
    ratio, low, high = paired_ratio_interval([0.0, 1.0], [0.0, 1.0])
    assert [float(ratio), float(low), float(high)] == [1.0, 1.0, 1.0]


def test_intervals_refuse_bad_values():
    with pytest.raises(ValueError, match="values"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="values"):
        bootstrap_interval([0.0, math.nan])
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval([0.0, 1.0], confidence=95)
    with pytest.raises(ValueError, match="same samples"):
        paired_ratio_interval([0.0, 1.0], [0.0])
