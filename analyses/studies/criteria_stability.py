"""Would other samples give the same choice of layers? Choices repeated on resampled samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

import pandas as pd

from tokenlens.errors import BudgetError
from tokenlens.methods.plan import Selection
from tokenlens.methods.swiftvlm_stages import swiftvlm_stages
from tokenlens.schedule import Schedule
from tokenlens.selection.layer_choice import choose_layers
from tokenlens.selection.solve import parse_budget, solved_schedule
from tokenlens.wording.figures import percent

from .criteria_agreement import NAMES, Drawn
from .criteria_scores import Choices
from .paired_difference import markdown_table

REDRAWS = 200
MAX_CORRELATION = 0.9
"""Default of `tokenlens.methods.plan.plan`."""


def compute(drawn: Drawn, choices: Choices, stages: int = 3) -> pd.DataFrame:
    """Frequency of every set of chosen layers.

    Args:
        drawn: scores on resampled samples.
        choices: choices on the original samples, with `MAX_CORRELATION`.
        stages: number of layers to choose.

    Returns:
        Columns `budget`, `criterion`, `layers` and `share` of the draws, the most frequent first.
    """
    rows = []
    for budget, by_criterion in choices.items():
        for name in (name for name in by_criterion if name in NAMES):
            selection = by_criterion[name]
            solver = _Solver(budget, selection)
            scores = drawn.draws[:REDRAWS, NAMES.index(name)]
            counts = Counter(solver.choose(draw.tolist(), stages) for draw in scores)
            for layers, count in counts.most_common():
                listed = ", ".join(map(str, layers))
                rows.append((budget, name, listed, count / len(scores)))
    return pd.DataFrame(rows, columns=["budget", "criterion", "layers", "share"])


class _Solver:
    """Choices of layers at one budget; a schedule is solved once for the same layers."""

    def __init__(self, budget: str, selection: Selection) -> None:
        self._budget = parse_budget(budget)
        self._selection = selection
        self._solved = cache(self._try)

    def choose(self, scores: Sequence[float], stages: int) -> tuple[int, ...]:
        correlation = self._selection.correlation
        choice = choose_layers(scores, stages, correlation, MAX_CORRELATION, self._solve)
        return tuple(choice.layers)

    def _solve(self, layers: Sequence[int]) -> Schedule:
        solved = self._solved(tuple(layers))
        if isinstance(solved, BudgetError):
            raise solved
        return solved

    def _try(self, layers: tuple[int, ...]) -> Schedule | BudgetError:
        model, n_visual = self._selection.schedule.model, self._selection.n_visual
        stages = swiftvlm_stages(layers)
        try:
            return solved_schedule("swiftvlm", model, stages, self._budget, n_visual=n_visual)
        except BudgetError as error:
            return error


def markdown(table: pd.DataFrame, most: int = 4) -> str:
    """A row per budget and criterion with its `most` frequent choices."""
    rows = []
    for (budget, name), part in table.groupby(["budget", "criterion"], sort=False):
        sets = [f"{row.layers}: {percent(row.share, 1)}" for row in part.head(most).itertuples()]
        rows.append([budget, name, str(len(part)), "; ".join(sets)])
    heads = ["budget", "chosen by", "different choices", "the most frequent"]
    return markdown_table(heads, rows, words=4)
