"""Metrics of benchmarks over a whole set of answers, beyond the mean of their scores.

To add one, write a function from the rows of a result that share a metric to its figures, and enter
it in `SET_METRICS` under the name of that metric.
"""

from collections.abc import Callable
from math import isnan, nan
from typing import NamedTuple

import numpy as np
import pandas as pd

from tokenlens.evaluation.metrics.answer_forms import is_yes_in_pope
from tokenlens.samples.benchmarks.mme import COGNITION, PERCEPTION
from tokenlens.samples.metric_names import is_yes


class Figure(NamedTuple):
    """One number: its task, its name, and its value (NaN where it is not defined)."""

    task: str
    name: str
    value: float

    @property
    def text(self) -> str:
        """The value as text: scores in points, everything else in per cent."""
        if isnan(self.value):
            return "-"
        return f"{self.value:.1f}" if self.name == "score" else f"{self.value:.1%}"


def pope_figures(rows: pd.DataFrame) -> list[Figure]:
    """Accuracy, precision, recall, F1 and share of yes, per split and as mean of the splits.

    Source: POPE, arXiv 2305.10355, `evaluate.py`; yes is the positive class. The yes ratio is that
        of the answers. Precision is NaN where no answer is yes, recall where no right answer is
        yes.
    """
    found = []
    for task, part in _tasks(rows):
        said = part["prediction"].map(is_yes_in_pope)
        true = part["answers"].map(lambda answers: is_yes(answers[0]))
        both, either = int((said & true).sum()), int(said.sum() + true.sum())
        found += [
            Figure(task, "accuracy", float((said == true).mean())),
            Figure(task, "precision", both / said.sum() if said.any() else nan),
            Figure(task, "recall", both / true.sum() if true.any() else nan),
            Figure(task, "F1", 2 * both / either if either else nan),
            Figure(task, "yes ratio", float(said.mean())),
        ]
    if len({figure.task for figure in found}) < 2:
        return found
    names = list(dict.fromkeys(figure.name for figure in found))
    return found + [
        Figure("macro", name, float(pd.Series(_values(found, name)).mean(skipna=False)))
        for name in names
    ]


def mme_figures(rows: pd.DataFrame) -> list[Figure]:
    """Accuracy, accuracy⁺ and score per subtask, and the sums over perception and cognition.

    Source: MME, arXiv 2306.13394. Accuracy⁺ is the share of pictures whose two questions are both
    right (all questions about it, where the samples have no group); a subtask's score is the sum of
    the two in per cent, 0 to 200. The sums are over the subtasks in the data: 0 to 2000 and 0 to
    800 where all are present.
    """
    found = []
    for task, part in _tasks(rows):
        accuracy, strict = float(part["score"].mean()), _all_right(part, by_picture=True)
        found += [
            Figure(task, "accuracy", accuracy),
            Figure(task, "accuracy⁺", strict),
            Figure(task, "score", 100 * (accuracy + strict)),
        ]
    for name, subtasks in (("perception", PERCEPTION), ("cognition", COGNITION)):
        own = [figure for figure in found if figure.task in subtasks and figure.name == "score"]
        if own:
            found.append(Figure(name, "score", sum(figure.value for figure in own)))
    return found


def mmbench_figures(rows: pd.DataFrame) -> list[Figure]:
    """Circular accuracy per ability and over all questions.

    Source: MMBench, arXiv 2307.06281: a question is right where its answers are right for every
        order of its options in the data.
    """
    parts = [*_tasks(rows), ("all", rows)]
    return [Figure(task, "circular accuracy", _all_right(part)) for task, part in parts]


SET_METRICS: dict[str, Callable[[pd.DataFrame], list[Figure]]] = {
    "pope": pope_figures,
    "mme": mme_figures,
    "mmbench": mmbench_figures,
}
"""Function of the figures of a set of samples, by the name of the samples' metric."""


def set_figures(rows: pd.DataFrame) -> list[Figure]:
    """The figures of the rows of a result (`ROW_SCHEMA`); rows without ground truth do not count.

    >>> rows = pd.DataFrame({"task": ["count"] * 2, "group": ["a"] * 2, "metric": ["mme"] * 2,
    ...                      "image": ["a.png"] * 2, "score": [1.0, 0.0]})
    >>> [(name, value) for _, name, value in set_figures(rows)]
    [('accuracy', 0.5), ('accuracy⁺', 0.0), ('score', 50.0), ('score', 50.0)]
    """
    scored = rows[rows["score"].notna()]
    return [
        figure
        for metric, part in scored.groupby("metric", sort=False)
        if metric in SET_METRICS
        for figure in SET_METRICS[str(metric)](part)
    ]


def _tasks(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(str(task), part) for task, part in rows.groupby("task", sort=False)]


def _all_right(rows: pd.DataFrame, *, by_picture: bool = False) -> float:
    """The share of groups in which every sample is right.

    A sample without a group stands alone; with `by_picture`, with the others of its picture.
    """
    places = [f"{place}" for place in range(len(rows))]
    alone = rows["image"].where(rows["image"] != "", places) if by_picture else places
    groups = [rows["group"], np.where(rows["group"] == "", alone, "")]
    return float((rows.groupby(groups)["score"].min() == 1).mean())


def _values(figures: list[Figure], name: str) -> list[float]:
    return [figure.value for figure in figures if figure.name == name]
