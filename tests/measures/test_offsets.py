"""Offsets of groups held against true changes, on cases where the answer is known."""

import numpy as np
import pytest

from tokenlens.measures.offsets import group_offsets

RNG = np.random.default_rng(0)


def plain(before, after, offset, member_of, seeds, other):
    """The definitions, one group and one token at a time."""
    rows = []
    for g in range(len(offset)):
        mine = [t for t in range(len(before)) if member_of[t] == g]
        h = (g + other) % len(offset)
        theirs = [t for t in range(len(before)) if member_of[t] == h]
        change = {t: after[t] - before[t] for t in range(len(before))}
        mean = sum(change[t] for t in mine) / len(mine)
        mean_other = sum(change[t] for t in theirs) / len(theirs)
        mean_all = sum(change.values()) / len(change)
        whole = sum((change[t] ** 2).sum() for t in mine)

        def left(by, mine=mine, change=change, whole=whole):
            return sum(((change[t] - by) ** 2).sum() for t in mine) / whole

        def alike(seed, mine=mine, own=seeds[g]):
            cosines = [cosine(before[t], before[seed]) for t in mine if t != own]
            return np.mean(cosines) if cosines else np.nan

        rows.append(
            {
                "members": len(mine),
                "cosine": cosine(offset[g], mean),
                "cosine_other": cosine(offset[g], mean_other),
                "error": np.linalg.norm(offset[g] - mean) / np.linalg.norm(mean),
                "error_other": np.linalg.norm(offset[g] - mean_other) / np.linalg.norm(mean_other),
                "left": left(offset[g]),
                "left_other": left(offset[h]),
                "left_mean": left(mean),
                "left_all": left(mean_all),
                "own": own({t: before[t] for t in mine}),
                "own_aligned": own({t: before[t] + offset[g] for t in mine}),
                "own_true": own({t: after[t] for t in mine}),
                "alike": alike(seeds[g]),
                "alike_other": alike(seeds[h]),
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def own(states):
    mean = sum(states.values()) / len(states)
    shares = [np.linalg.norm(h - mean) / np.linalg.norm(h) for h in states.values()]
    return np.mean(shares) if len(shares) > 1 else np.nan


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def case(groups=4, tokens=13, hidden=5):
    seeds = np.sort(RNG.choice(tokens, groups, replace=False))
    member_of = RNG.integers(0, groups, tokens)
    member_of[seeds] = np.arange(groups)
    before, after = RNG.normal(size=(2, tokens, hidden))
    return before, after, RNG.normal(size=(groups, hidden)), member_of, seeds


@pytest.mark.parametrize("other", [1, 2, 3])
def test_every_measure_is_its_definition(other):
    given = case()
    found, expected = group_offsets(*given, other), plain(*given, other)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-12, err_msg=name)


def test_members_that_all_change_alike_are_brought_back_exactly():
    before, _, offset, member_of, seeds = case()
    found = group_offsets(before, before + offset[member_of], offset, member_of, seeds, 1)
    for name, value in {"cosine": 1, "error": 0, "left": 0, "left_mean": 0}.items():
        np.testing.assert_allclose(found[name], value, atol=1e-12)
    assert (found["cosine_other"] < 0.99).all()
    assert (found["left_other"] > 0.1).all()


def test_the_mean_change_is_the_best_one_offset_and_another_is_worse():
    before, after, offset, member_of, seeds = case(tokens=40)
    found = group_offsets(before, after, offset, member_of, seeds, 1)
    assert (found["left_mean"] <= found["left"]).all()
    assert (found["left_mean"] <= found["left_all"]).all()
    assert (found["left_mean"] < 1).all()


def test_a_long_offset_leaves_little_of_a_member_its_own():
    before, after, offset, member_of, seeds = case(groups=2, tokens=20)
    shares = [
        group_offsets(before, after, length * offset, member_of, seeds, 1)["own_aligned"]
        for length in (0, 10, 1000)
    ]
    own = group_offsets(before, after, offset, member_of, seeds, 1)["own"]
    np.testing.assert_allclose(shares[0], own)
    assert (shares[1] < shares[0]).all()
    assert (shares[2] < 0.01).all()


def test_what_cannot_be_said_is_nan():
    before, _, _, _, _ = case()
    alone = group_offsets(
        before[:1], before[:1], np.ones((1, 5)), np.zeros(1, int), np.zeros(1, int), 0
    )
    assert alone["members"] == 1
    assert all(np.isnan(values).all() for name, values in alone.items() if name != "members")
