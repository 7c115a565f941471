"""Tables of a comparison, one per budget: retained scores and costs of the methods.

Every figure has a paired bootstrap interval. The best of a column is marked only where the interval
of its difference from every other excludes zero. `table_files` writes the tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Literal

import numpy as np

from tokenlens.evaluation.comparing.comparison import UNPRUNED, Comparison
from tokenlens.evaluation.metrics.sample_metrics import LOCALISATION_METRICS, metric_name
from tokenlens.evaluation.running.results import task_groups
from tokenlens.measures.intervals import Resampled

LOCALISATION, OTHER = "localisation average", "other average"
AGREEMENT = "agreement"
TOKENS, MACS, TIME = "visual tokens per layer", "MACs", "prefill time"
Kind = Literal["score", "agreement", "tokens", "macs", "time"]
_BETTER: Mapping[str, int] = {"score": 1, "agreement": 1, "time": -1}
"""Kinds of columns with a best figure, the highest (1) or the lowest (-1). A budget sets the
tokens, and all but sets the MACs."""


@dataclass(frozen=True)
class Cell:
    """A figure and its 95 % interval; all NaN where there is none.

    Attributes:
        value: the figure.
        low: low end of its interval.
        high: high end.
        best: whether it is marked as the best of its column.
    """

    value: float
    low: float
    high: float
    best: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is no figure."""
        return isnan(self.value)


@dataclass(frozen=True)
class Column:
    """A column of a table and the kind of its figures.

    Attributes:
        name: heading of the column.
        kind: `score`, `agreement`, `tokens`, `macs` or `time`.
        samples: number of samples it is computed from; number of batches for a time.
        tasks: tasks whose scores or agreements are averaged.
    """

    name: str
    kind: Kind
    samples: int
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class BudgetTable:
    """Methods at one budget.

    Attributes:
        budget: heading of the table; empty for arms without a budget.
        columns: columns of the table.
        unpruned: the unpruned model's own figures: scores from 0 to 1, tokens, MACs per sample,
            seconds per sample.
        rows: per method its figures: tokens as counts, all others as shares of the unpruned
            model's.
        left_out: methods that could not be run at this budget, with the reason.
        layers: a sentence on layers that were chosen for the model, or an empty text.
        timed: a sentence on how times were measured, or an empty text.
    """

    budget: str
    columns: tuple[Column, ...]
    unpruned: tuple[Cell, ...]
    rows: Mapping[str, tuple[Cell, ...]]
    left_out: Mapping[str, str]
    layers: str
    timed: str


def budget_tables(comparison: Comparison) -> list[BudgetTable]:
    """The tables of a comparison, in the order of its budgets.

    Each average is the ratio of two macro averages over tasks: the method's and the unpruned
    model's. `LOCALISATION` covers the tasks that are scored by the overlap of boxes. Samples are
    resampled within their task, with the same draw for all arms.

    The best figure of a column of scores or of times is marked where, for every other method of the
    table, the interval of the difference between the two excludes zero.
    """
    return list(comparison.once("budget tables", _budget_tables))


def _budget_tables(comparison: Comparison) -> list[BudgetTable]:
    drawn = _drawn(comparison)
    places = {arm: place for place, arm in enumerate(comparison.arms)}
    plan = comparison.plan
    budgets = comparison.methods
    left_out = plan.left_out if plan else {}
    return [
        BudgetTable(
            budget=budget,
            columns=tuple(column for column, _ in drawn),
            unpruned=tuple(_cell(figures[0]) for _, figures in drawn),
            rows=_rows({name: places[arm] for name, arm in budgets.get(budget, {}).items()}, drawn),
            left_out=left_out.get(budget, {}),
            layers=plan.layers.get(budget, "") if plan else "",
            timed=_timed(comparison),
        )
        for budget in dict.fromkeys([*budgets, *left_out])
    ]


def _drawn(comparison: Comparison) -> list[tuple[Column, Resampled]]:
    """Every column with its resampled means of all arms: [arms]."""
    unpruned = next(iter(comparison.arms.values())).outcomes
    tasks = {
        task: strata[0]
        for task, strata in task_groups(unpruned)[:-2]
        if strata[0]["score"].notna().any()
    }
    boxes = [
        task
        for task, rows in tasks.items()
        if metric_name(task, rows["metric"].iloc[0]) in LOCALISATION_METRICS
    ]
    groups = {
        LOCALISATION: boxes,
        OTHER: [task for task in tasks if task not in boxes],
        **{task: [task] for task in tasks},
    }
    found = []
    for name, members in groups.items():
        if members:
            strata = comparison.scores([tasks[task] for task in members])
            column = Column(name, "score", sum(map(len, strata)), tuple(members))
            found.append((column, Resampled.of(strata)))
    if unpruned["score"].isna().any():
        every = dict(tuple(unpruned.groupby("task", sort=False)))
        agreed = comparison.agreements(list(every.values()))
        if all(np.isfinite(stratum).all() for stratum in agreed):
            column = Column(AGREEMENT, "agreement", len(unpruned), tuple(map(str, every)))
            found.append((column, Resampled.of(agreed)))
    arms = [results.outcomes for results in comparison.arms.values()]
    for heading, name in ((TOKENS, "tokens"), (MACS, "macs")):
        column = Column(heading, name, len(unpruned))  # type: ignore[arg-type]
        values = np.stack([rows[name] for rows in arms], axis=1)
        found.append((column, Resampled.of([values])))
    if comparison.timing is not None:
        times = comparison.timing.of("prefill_s", list(comparison.arms))
        found.append((Column(TIME, "time", len(times)), Resampled.of([times])))
    return found


def _rows(
    places: Mapping[str, int], drawn: Sequence[tuple[Column, Resampled]]
) -> dict[str, tuple[Cell, ...]]:
    """The cells of every method of one table; `places` are the indices of the methods' arms."""
    columns = []
    for column, figures in drawn:
        best = _winner(column, {name: figures[place] for name, place in places.items()})
        columns.append(
            {
                name: _cell(
                    figures[place] if column.kind == "tokens" else figures[place] / figures[0],
                    best=name == best,
                )
                for name, place in places.items()
            }
        )
    return {name: tuple(column[name] for column in columns) for name in places}


def _winner(column: Column, figures: Mapping[str, Resampled]) -> str | None:
    """The method whose difference from every other has an interval without zero, if any."""
    sign = _BETTER.get(column.kind, 0)
    if not sign or len(figures) < 2:
        return None
    first = max(figures, key=lambda name: sign * float(figures[name].mean))
    for name, other in figures.items():
        _, low, high = (figures[first] - other).interval()
        if name != first and not (low if sign > 0 else -high) > 0:
            return None
    return first


def _cell(figure: Resampled, *, best: bool = False) -> Cell:
    value, low, high = map(float, figure.interval())
    return Cell(value, low, high, best and not isnan(value))


def _timed(comparison: Comparison) -> str:
    timing = comparison.timing
    if timing is None:
        return ""
    batches = len(timing.of("prefill_s", [UNPRUNED]))
    times = "once" if timing.repeats == 1 else f"{timing.repeats} times, of which the median counts"
    return (
        f"in one run, on {timing.machine}: after a warm-up, all arms in turn answered the same "
        f"{batches} batches of {timing.samples} {times}; the vision tower is included"
    )
