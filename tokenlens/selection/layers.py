"""Choice of the pruning layers: the dynamic programme of SwiftVLM (arXiv 2602.03134, §3.2).

A layer is feasible from layer 3 on where its score is above that of every earlier layer from 3 on.
Chosen layers i_1 < … < i_m have the area

    P = Σ_{k=0…m} x_{i_k} · (i_{k+1} − i_k) / (L − 2),   i_0 = 2, i_{m+1} = L,

under the step function of the score in force at each depth; the largest area is chosen. Scores are
compared as exact rational numbers, so that equal areas compare as equal.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tokenlens.errors import SelectionError

FIRST_LAYER = 3
"""The first two layers behave differently from the rest and are never chosen."""


def select_layers(
    scores: Sequence[float],
    stages: int = 3,
    *,
    correlation: ArrayLike | None = None,
    max_correlation: float = 0.9,
    first_span: int = 1,
    latest_first: int | None = None,
) -> list[int]:
    """The `stages` feasible layers with the largest area, counted from 1.

    Args:
        scores: the capability x_i of each layer.
        stages: number of layers to choose.
        correlation: float [layers, layers]; that of two consecutive chosen layers must not exceed
            `max_correlation`.
        max_correlation: see `correlation`.
        first_span: the least distance from the first chosen layer to the next one (or to L + 1).
            It is 2 where the first stage is scored after its layer and the next one before its own
            layer: at distance 1 the first stage would have no effect on any layer.
        latest_first: the first chosen layer is at most this one; None for any.

    Returns:
        Increasing layers; where areas are equal, the lexicographically smallest.

    Raises:
        SelectionError: fewer layers can be chosen; the message says how many.

    >>> select_layers([0.1, 0.2, 0.3, 0.1, 0.5, 0.9, 0.8, 0.9], stages=2)
    [5, 6]
    """
    if isinstance(stages, bool) or not isinstance(stages, Integral) or stages < 1:
        raise SelectionError(f"stages: got {stages!r}, expected an integer from 1")
    chain = _Chain(scores, correlation, max_correlation, first_span, latest_first)
    layers = chain.best(stages)
    if layers is None:
        most = chain.longest(stages)
        raise SelectionError(
            f"stages: got {stages}, expected at most {most}: of {len(chain.values)} layers "
            f"{chain.feasible or 'none'} alone score above every earlier one from {FIRST_LAYER} on"
            + (f", and some rank alike (above {max_correlation:g})" if chain.some_alike else "")
            + (", and the first one chosen must leave a layer to act on" if first_span > 1 else "")
        )
    return list(layers)


def most_stages(
    scores: Sequence[float],
    stages: int = 3,
    *,
    correlation: ArrayLike | None = None,
    max_correlation: float = 0.9,
    first_span: int = 1,
    latest_first: int | None = None,
) -> int:
    """The largest number of stages, up to `stages`, for which `select_layers` finds layers.

    >>> most_stages([0.9, 0.1, 0.2, 0.2, 0.5, 0.4, 0.6], stages=4)
    3
    """
    chain = _Chain(scores, correlation, max_correlation, first_span, latest_first)
    return chain.longest(stages)


def feasible_layers(scores: Sequence[float]) -> list[int]:
    """Layers, counted from 1, that score above every earlier one from layer 3 on.

    >>> feasible_layers([0.9, 0.1, 0.2, 0.2, 0.5, 0.4, 0.6])
    [3, 5, 7]
    """
    values = _exact(scores)
    feasible: list[int] = []
    for layer in range(FIRST_LAYER, len(values) + 1):
        if not feasible or values[layer - 1] > values[feasible[-1] - 1]:
            feasible.append(layer)
    return feasible


def area(scores: Sequence[float], layers: Sequence[int]) -> float:
    """The area P of the chosen `layers`, counted from 1.

    >>> area([0.0, 0.5, 1.0, 2.0], [3])
    0.75
    """
    values = _exact(scores)
    edges = [FIRST_LAYER - 1, *layers, len(values)]
    if any(b <= a for a, b in pairwise(edges[:-1])) or edges[-2] > edges[-1]:
        raise SelectionError(
            f"layers: got {list(layers)}, expected increasing ones from {FIRST_LAYER} to "
            f"{len(values)}"
        )
    total = sum((values[a - 1] * (b - a) for a, b in pairwise(edges)), Fraction(0))
    return float(total / (len(values) - FIRST_LAYER + 1))


class _Chain:
    """Chains of increasing feasible layers, in which each pair of neighbours is allowed."""

    def __init__(
        self,
        scores: Sequence[float],
        correlation: ArrayLike | None,
        max_correlation: float,
        first_span: int,
        latest_first: int | None,
    ) -> None:
        self.values = _exact(scores)
        self.feasible = feasible_layers(scores)
        self.first_span = first_span
        self.latest_first = len(self.values) if latest_first is None else latest_first
        self.alike = _alike(correlation, max_correlation, len(self.values))

    @property
    def some_alike(self) -> bool:
        """Whether some feasible layers may not follow each other."""
        places = [layer - 1 for layer in self.feasible]
        return bool(np.triu(self.alike[np.ix_(places, places)], k=1).any())

    def longest(self, limit: int) -> int:
        """The largest number of layers, up to `limit`, that can be chosen."""
        counts = range(min(limit, len(self.feasible)), 0, -1)
        return next((count for count in counts if self.best(count) is not None), 0)

    def best(self, stages: int) -> tuple[int, ...] | None:
        """The `stages` layers with the largest area; None where there are not so many."""
        depth = len(self.values)

        @cache
        def onwards(layer: int, chosen: int) -> tuple[Fraction, tuple[int, ...]] | None:
            """Negative area from `layer`, the `chosen`-th, to the end, and the layers after it."""
            height = self.values[layer - 1]
            span = self.first_span if chosen == 1 else 1
            if chosen == stages:
                return (-height * (depth - layer), ()) if depth + 1 - layer >= span else None
            options = (
                (rest[0] - height * (following - layer), (following, *rest[1]))
                for following in self.feasible
                if following - layer >= span
                and (chosen or following <= self.latest_first)
                and not (chosen and self.alike[layer - 1, following - 1])
                and (rest := onwards(following, chosen + 1)) is not None
            )
            return min(options, default=None)

        solution = onwards(FIRST_LAYER - 1, 0) if self.feasible else None
        return None if solution is None else solution[1]


def _exact(scores: Sequence[float]) -> list[Fraction]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise SelectionError(
            f"scores: got {'shape ' + str(values.shape) if values.ndim != 1 else values.tolist()}, "
            "expected one finite number per layer"
        )
    return [Fraction(value) for value in values.tolist()]


def _alike(correlation: ArrayLike | None, limit: float, layers: int) -> NDArray[np.bool_]:
    """Pairs of layers with a correlation above `limit`: bool [layers, layers]."""
    if correlation is None:
        return np.zeros((layers, layers), dtype=np.bool_)
    if math.isnan(limit):
        raise SelectionError("max_correlation: got nan, expected a number from -1 to 1")
    matrix = np.asarray(correlation, dtype=np.float64)
    if matrix.shape != (layers, layers) or not np.isfinite(matrix).all():
        raise SelectionError(
            f"correlation: got shape {matrix.shape}, expected finite numbers in "
            f"[{layers}, {layers}]"
        )
    return matrix > limit
