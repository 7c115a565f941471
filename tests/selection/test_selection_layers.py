"""The dynamic programme against trying every choice."""

import random
from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenlens.errors import SelectionError
from tokenlens.selection.layers import area, feasible_layers, most_stages, select_layers


def brute_force(scores, stages, correlation=None, limit=0.9, first_span=1):
    """Every tuple of feasible layers, in lexicographic order, by the definition; None without."""
    depth = len(scores)
    x = dict(enumerate(map(Fraction, scores), start=1))
    best = None
    feasible = [i for i in range(3, depth + 1) if all(x[i] > x[j] for j in range(3, i))]
    for layers in combinations(feasible, stages):
        if correlation is not None and any(
            correlation[a - 1][b - 1] > limit for a, b in pairwise(layers)
        ):
            continue
        if (*layers, depth + 1)[1] - layers[0] < first_span:
            continue
        edges = [2, *layers, depth]
        value = sum((x[a] * (b - a) for a, b in pairwise(edges)), Fraction(0)) / (depth - 2)
        if best is None or value > best[0]:
            best = value, list(layers)
    return best


def random_scores(rng):
    depth = rng.randint(4, 16)
    kind = rng.randrange(4)
    if kind == 0:
        return [rng.random() for _ in range(depth)]
    if kind == 1:
        return [rng.randrange(6) / 5 for _ in range(depth)]
    if kind == 2:
        return sorted(rng.randrange(8) / 7 for _ in range(depth))
    return [i / depth + rng.random() / 4 for i in range(depth)]


@pytest.mark.parametrize("constrained", [False, True])
def test_two_thousand_random_sequences(constrained):
    rng = random.Random(int(constrained))
    impossible = constraint_mattered = 0
    for _ in range(2000):
        scores = random_scores(rng)
        stages = rng.randint(1, 4)
        limits = {}
        if constrained:
            half = np.triu([[rng.random() for _ in scores] for _ in scores], 1)
            limits = {
                "correlation": half + half.T + np.eye(len(scores)),
                "max_correlation": rng.choice([0.3, 0.6, 0.9]),
                "first_span": rng.choice([1, 2]),
            }
        expected = brute_force(
            scores,
            stages,
            limits.get("correlation"),
            limits.get("max_correlation", 0.9),
            limits.get("first_span", 1),
        )
        if expected is None:
            impossible += 1
            with pytest.raises(SelectionError):
                select_layers(scores, stages, **limits)
            continue
        got = select_layers(scores, stages, **limits)
        assert got == expected[1], (scores, stages)
        assert area(scores, got) == float(expected[0])
        constraint_mattered += constrained and got != brute_force(scores, stages)[1]
    assert 0 < impossible < 1500, "both outcomes must have been tried"
    assert not constrained or constraint_mattered > 100


def test_a_wrong_objective_would_be_seen():
    """The control: layers chosen by score alone are not the ones with the largest area."""
    scores = [0.0, 0.0, 0.1, 0.5, 0.55, 0.6, 0.65, 0.7]
    by_score = sorted(feasible_layers(scores), key=lambda layer: -scores[layer - 1])[:2]
    assert select_layers(scores, 2) == brute_force(scores, 2)[1] != sorted(by_score)


def test_equal_areas_go_to_the_smaller_layers():
    scores = [0.0, 0.0, 2.0, 3.0, 4.0, 0.0]
    assert area(scores, [3, 4]) == area(scores, [3, 5]) == 2.0
    assert select_layers(scores, 2) == [3, 4]


def test_the_published_layers_come_of_a_profile_like_the_published_one():
    rise = [0.50, 0.60, 0.70, 0.70, 0.71, 0.70, 0.72, 0.72, 0.71, 0.73]
    peak = [0.88, 0.87, 0.88, 0.885, 0.99]
    scores = rise + peak + [0.9] * 17
    assert select_layers(scores, 3) == [3, 11, 15]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(1, 3))
@settings(max_examples=60)
def test_most_stages_is_the_most_that_works(scores, span):
    most = most_stages(scores, 5, first_span=span)
    for stages in range(1, 6):
        assert (brute_force(scores, stages, first_span=span) is not None) == (stages <= most)


def test_the_error_says_how_many_are_feasible():
    scores = [0.1, 0.1, 0.5, 0.4, 0.6, 0.2]
    with pytest.raises(SelectionError, match=r"got 3, expected at most 2.*\[3, 5\]"):
        select_layers(scores, 3)
    alike = np.ones((6, 6))
    with pytest.raises(SelectionError, match=r"got 2, expected at most 1.*rank alike \(above 0.9"):
        select_layers(scores, 2, correlation=alike)
    with pytest.raises(SelectionError, match="got 1, expected at most 0"):
        select_layers([0.1, 0.2], 1)


@pytest.mark.parametrize("stages", [0, -1, True, 2.0, "3"])
def test_stages_are_a_positive_integer(stages):
    with pytest.raises(SelectionError, match="stages"):
        select_layers([0.1] * 6, stages)


def test_scores_and_correlation_are_finite_and_fit():
    for scores in ([0.1, 0.2, float("nan")], [[0.1, 0.2, 0.3]], [0.1, 0.2, float("inf")]):
        with pytest.raises(SelectionError, match="scores"):
            select_layers(scores, 1)
    for correlation in (np.eye(3), np.full((4, 4), np.nan)):
        with pytest.raises(SelectionError, match="correlation"):
            select_layers([0.1, 0.2, 0.3, 0.4], 1, correlation=correlation)


def test_the_area_is_of_increasing_layers_of_the_model():
    for layers in ([2], [4, 3], [3, 3], [5], [0, 3]):
        with pytest.raises(SelectionError, match="layers"):
            area([0.1, 0.2, 0.3, 0.4], layers)


@pytest.mark.parametrize(
    ("scores", "said", "unsaid"),
    [
        ([0.1, 0.2, 0.3], r"\[3\] alone .* must leave a layer to act on", "alike"),
        ([0.1, 0.2], "of 2 layers none alone", "alike"),
        ([0.1, 0.2, 0.3, 0.4], r"some rank alike \(above 0\.9\)", "none"),
    ],
)
def test_only_what_stands_in_the_way_is_said(scores, said, unsaid):
    layers = len(scores)
    correlation = np.ones((layers, layers)) if layers > 3 else np.eye(layers)
    with pytest.raises(SelectionError, match=said) as refused:
        select_layers(scores, stages=3, correlation=correlation, first_span=2)
    assert unsaid not in str(refused.value)
