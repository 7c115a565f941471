"""Choice of the layers that a budget allows, with notes for the user."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenlens.errors import BudgetError
from tokenlens.schedule import Schedule
from tokenlens.selection.layers import FIRST_LAYER, feasible_layers, most_stages, select_layers

FIRST_SPAN = 2
"""A stage after layer i and one before layer i + 1 would leave the first nothing to act on."""


@dataclass(frozen=True)
class LayerChoice:
    """The chosen layers, those that would be chosen without the budget, and the schedule."""

    layers: list[int]
    wanted: list[int]
    schedule: Schedule
    notes: tuple[str, ...]


def choose_layers(
    scores: Sequence[float],
    stages: int,
    correlation: NDArray[np.float64],
    limit: float,
    solve: Callable[[Sequence[int]], Schedule],
) -> LayerChoice:
    """The layers with the largest area for which `solve` finds a schedule.

    Where the layers with the largest area cannot meet the budget, earlier first stages are tried.

    Args:
        scores: the capability of each layer.
        stages: number of layers to choose; fewer are chosen where there are fewer.
        correlation: float [layers, layers].
        limit: see `max_correlation` of `select_layers`.
        solve: makes the schedule of given layers, or raises `BudgetError`.

    Raises:
        SelectionError: no layer can be chosen.
        BudgetError: no first stage meets the budget; the message gives the range of the earliest.
    """
    latest_first: int | None = None
    wanted: list[int] = []
    refusal: BudgetError | None = None
    while True:
        most = most_stages(
            scores,
            stages,
            correlation=correlation,
            max_correlation=limit,
            first_span=FIRST_SPAN,
            latest_first=latest_first,
        )
        if refusal is not None and not most:
            raise refusal
        layers = select_layers(
            scores,
            most or stages,
            correlation=correlation,
            max_correlation=limit,
            first_span=FIRST_SPAN,
            latest_first=latest_first,
        )
        wanted = wanted or layers
        try:
            return LayerChoice(
                layers, wanted, solve(layers), _notes(scores, stages, layers, wanted)
            )
        except BudgetError as error:
            refusal = error
            latest_first = layers[0] - 1


def _notes(
    scores: Sequence[float], stages: int, layers: Sequence[int], wanted: Sequence[int]
) -> tuple[str, ...]:
    notes = []
    if len(layers) < stages:
        feasible = feasible_layers(scores)
        notes.append(
            f"{stages} stages were asked for and at most {len(layers)} can be had: only layers "
            f"{_listed(feasible)} score above every earlier one from layer {FIRST_LAYER} on"
            + (
                ", and some of them may not follow each other"
                if len(layers) < len(feasible)
                else ""
            )
        )
    if layers != wanted:
        notes.append(
            f"layers {_listed(wanted)} have the largest area, but with their first stage after "
            f"layer {wanted[0]} the budget is out of reach; these start at layer {layers[0]}"
        )
    return tuple(notes)


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))
