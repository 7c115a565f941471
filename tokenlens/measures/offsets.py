"""Fit of one offset per group to the changes of the group's members."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def group_offsets(
    before: Floats,
    after: Floats,
    offset: Floats,
    member_of: NDArray[np.int64],
    seeds: NDArray[np.int64],
    other: int,
) -> dict[str, Floats]:
    """Compare each group's offset with the true changes of its members.

    A token's *change* is `after - before`. Controls use another group instead of a token's own.

    Args:
        before: [tokens, hidden].
        after: [tokens, hidden].
        offset: [groups, hidden], added to `before` to approximate `after`.
        member_of: [tokens], the group of each token; no group is empty.
        seeds: [groups], the seed token of each group.
        other: group i's other is group i + `other`, counted round; 0 where there is none.

    Returns:
        By name, an array of [groups]; NaN for a control without another group, and where a
        denominator is 0:

        - `members`: tokens in the group.
        - `cosine`: of the offset and the mean change; `cosine_other`: and the other's mean change.
        - `error`: length of the offset minus the mean change, over the mean change's length;
          `error_other`: of the offset minus the other's mean change, over that one's length.
        - `left`: squared error of the members with the offset, over that without one. Further with
          the other's offset (`left_other`), with the group's own mean change, the best there is
          (`left_mean`), and with the mean change of all tokens (`left_all`).
        - `own`: the share of a member's state that is its own: length of `before` minus the group's
          mean of it, over the length of `before`, mean over members. The same of `before` plus the
          offset, which adds nothing to the own part (`own_aligned`), and of `after` (`own_true`).
          NaN for a group of one.
        - `alike`: mean cosine of `before` of its members and its seed, which itself is left out;
          `alike_other`: and of the other's seed.
    """
    groups = len(offset)
    belongs = np.eye(groups)[member_of].T
    members = belongs.sum(axis=1)
    change = after - before
    mean = _means(change, belongs)
    others = np.roll(np.arange(groups), -other)
    control = 1.0 if other % groups else np.nan

    def left(by: Floats) -> Floats:
        missed = ((change - by[member_of]) ** 2).sum(axis=1)
        return _ratio(belongs @ missed, belongs @ (change**2).sum(axis=1))

    def own(states: Floats) -> Floats:
        deviation = np.linalg.norm(states - _means(states, belongs)[member_of], axis=1)
        shares = _ratio(deviation, np.linalg.norm(states, axis=1))
        return np.where(members > 1, belongs @ shares / members, np.nan)

    def alike(to: NDArray[np.int64]) -> Floats:
        cosine = _cosine(before, before[to[member_of]])
        cosine[seeds] = 0
        return _ratio(belongs @ cosine, members - 1)

    return {
        "members": members,
        "cosine": _cosine(offset, mean),
        "cosine_other": control * _cosine(offset, mean[others]),
        "error": _distance(offset, mean),
        "error_other": control * _distance(offset, mean[others]),
        "left": left(offset),
        "left_other": control * left(offset[others]),
        "left_mean": left(mean),
        "left_all": left(np.broadcast_to(change.mean(axis=0), mean.shape)),
        "own": own(before),
        "own_aligned": own(before + offset[member_of]),
        "own_true": own(after),
        "alike": alike(seeds),
        "alike_other": control * alike(seeds[others]),
    }


def _means(states: Floats, belongs: Floats) -> Floats:
    """Mean state of each group: [groups, hidden]; `belongs` is 0 or 1, [groups, tokens]."""
    means: NDArray[np.float64] = belongs @ states / belongs.sum(axis=1, keepdims=True)
    return means


def _cosine(a: Floats, b: Floats) -> Floats:
    return _ratio((a * b).sum(axis=-1), np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def _distance(a: Floats, b: Floats) -> Floats:
    return _ratio(np.linalg.norm(a - b, axis=-1), np.linalg.norm(b, axis=-1))


def _ratio(a: Floats, b: Floats) -> Floats:
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b > 0)
