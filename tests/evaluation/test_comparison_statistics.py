from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenlens.evaluation.comparing.statistics import score_statistics
from tokenlens.measures.intervals import bootstrap_interval, paired_ratio_interval

few = settings(max_examples=25, deadline=None)
shares = st.integers(0, 20).map(lambda points: points / 20)
pairs = st.lists(st.tuples(shares, shares), min_size=1, max_size=30).map(
    lambda rows: np.array(rows)
)


@few
@given(pairs)
def test_one_stratum_gives_the_plain_mean_and_ratio_with_the_same_intervals(stratum):
    baseline, arm = stratum.T
    found = score_statistics([stratum], 2)[1]
    expected = bootstrap_interval(arm)
    assert [found["score"], found["score_low"], found["score_high"]] == pytest.approx(expected)
    expected = paired_ratio_interval(baseline, arm)
    got = [found["retained"], found["retained_low"], found["retained_high"]]
    assert got == pytest.approx(list(map(float, expected)), nan_ok=True)


@few
@given(st.lists(pairs, min_size=1, max_size=4))
def test_the_macro_average_is_the_mean_of_the_means_and_lies_in_its_interval(strata):
    found = score_statistics(strata, 2)[1]
    assert found["score"] == pytest.approx(np.mean([stratum[:, 1].mean() for stratum in strata]))
    assert found["score_low"] <= found["score_high"]


@few
@given(st.lists(shares.filter(bool), min_size=1, max_size=30))
def test_an_arm_that_equals_the_baseline_retains_all_of_it_beyond_doubt(scores):
    found = score_statistics([np.array([scores, scores]).T], 2)[1]
    assert (found["retained"], found["retained_low"], found["retained_high"]) == (1, 1, 1)


def test_samples_are_drawn_within_their_stratum():
    strata = [np.ones((3, 2)), np.array([[1.0, 0.0]] * 50)]
    found = score_statistics(strata, 2)[1]
    assert (found["score"], found["score_low"], found["score_high"]) == (0.5, 0.5, 0.5)
    together = score_statistics([np.concatenate(strata)], 2)[1]
    assert together["score_low"] < together["score"] < together["score_high"]


def test_nothing_is_retained_of_nothing():
    found = score_statistics([np.array([[0.0, 1.0]] * 4)], 2)[1]
    assert found["score"] == 1
    assert isnan(found["retained"])
    assert isnan(found["retained_low"])
    assert all(map(isnan, score_statistics([], 2)[1].values()))
