"""What is chosen of the trials, and the front, against looking at all pairs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenlens.tuning.trials import Trial, chosen_above, chosen_within, nearest, pareto

SHARES = st.integers(0, 100).map(lambda number: number / 100)


@st.composite
def many(draw):
    rows = draw(st.lists(st.tuples(SHARES, SHARES, SHARES, st.booleans()), max_size=20))
    return [
        Trial(
            place,
            "",
            "finished" if done else "hopeless",
            None,
            retained=score,
            low=max(0.0, score - 0.05),
            high=score,
            cost=cost,
            used=used * 2,
        )
        for place, (score, cost, used, done) in enumerate(rows)
    ]


@given(many())
def test_the_front_is_what_none_beats(trials):
    front = pareto(trials, step=1e-9)
    done = [one for one in trials if one.finished]
    for one in front:
        assert not any(
            other.price <= one.price
            and other.score >= one.score
            and (other.price, other.score) != (one.price, one.score)
            for other in done
        )
    for one in done:
        assert any(other.price <= one.price and other.score >= one.score for other in front)


@given(many())
def test_within_a_budget_none_retains_more(trials):
    chosen = chosen_within(trials)
    allowed = [one for one in trials if one.finished and one.used <= 1.01]
    assert (chosen is None) == (not allowed)
    assert all(one.score <= chosen.score for one in allowed)


@given(many(), SHARES)
def test_above_a_share_none_is_cheaper(trials, least):
    chosen = chosen_above(trials, least)
    allowed = [one for one in trials if one.finished and one.low >= least]
    assert (chosen is None) == (not allowed)
    assert all(one.price >= chosen.price for one in allowed)
    near = nearest(trials)
    if chosen is None and near is not None and near.finished:
        assert near.low < least
        assert all(one.low <= near.low for one in trials if one.finished)


def test_where_none_has_finished_the_nearest_was_given_up():
    lost = [
        Trial(place, "", "hopeless", None, values=(0.5,), retained=low, low=low, high=1.0, cost=0.3)
        for place, low in enumerate([0.2, 0.6, 0.4])
    ]
    assert nearest(lost).place == 1
    assert nearest([Trial(0, "", "refused", None)]) is None


def test_costs_that_are_nearly_one_are_one_point_of_the_front():
    close = [
        Trial(place, "", "finished", None, retained=score, low=0.0, high=1.0, cost=cost)
        for place, (score, cost) in enumerate([(0.9, 0.3), (0.91, 0.3001), (0.95, 0.31)])
    ]
    assert [one.place for one in pareto(close)] == [1, 2]


def test_a_trial_is_read_as_it_was_written():
    trial = Trial(3, "drop", "hopeless", None, {"a": 1}, (0.5,), 0.5, 0.1, 0.9, 0.3, None, "why")
    assert Trial.read(trial.as_json(), {"a": 1}) == trial


@pytest.mark.parametrize("name", ["", "fastv"])
def test_a_title(name):
    assert Trial(7, name, "refused", None).title == (name or "trial 7")
