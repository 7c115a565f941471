"""Paired difference of two arms of a comparison, and Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenlens.evaluation.running.results import ALL
from tokenlens.measures.intervals import paired_difference_interval
from tokenlens.wording.table_text import markdown_text

if TYPE_CHECKING:
    from tokenlens.evaluation.comparing.comparison import Comparison


def paired_difference(
    comparison: Comparison, ours: str, theirs: str, task: str
) -> tuple[float, float, float]:
    """Score of the arm `ours` minus that of `theirs`, and its 95 % paired bootstrap interval.

    `task` is one of the samples' tasks, or `all`; samples without ground truth do not count.
    """
    our_rows, their_rows = (comparison.arms[name].rows for name in (ours, theirs))
    asked = our_rows["score"].notna() & ((our_rows["task"] == task) | (task == ALL))
    mean, low, high = paired_difference_interval(
        their_rows.loc[asked, "score"], our_rows.loc[asked, "score"]
    )
    return float(mean), float(low), float(high)


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """A Markdown table; its first `words` columns are words, the others numbers.

    Headings and words are escaped, so that they are shown unchanged.

    >>> print(markdown_table(["who", "how many"], [["a", "1"]]))
    | who | how many |
    | --- | ---: |
    | a | 1 |
    """
    rule = ["---"] * words + ["---:"] * (len(heads) - words)
    shown = [[markdown_text(head, code=True) for head in heads], rule]
    for row in rows:
        shown.append([*(markdown_text(cell, code=True) for cell in row[:words]), *row[words:]])
    return "\n".join(f"| {' | '.join(line)} |" for line in shown)
