"""Is the bypass worth it? The chosen layers with and without it, against one early drop.

    python -m tokenlens.analyses.studies.baselines --budget 33% --budget 22%

At every budget (visual tokens entering a layer, mean over layers) five ways of pruning are run on
the same held-out samples: the chosen layers with bypass, the same without merged tokens, the same
layers dropping what they do not choose, one drop after layer 2, and one random drop there. Two
tables are printed as Markdown: what each retains, and by how much the bypass leads each of the
others on the same samples.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from tokenlens.schedule import Schedule
from tokenlens.selection.solve import Budget

from ..drawing.style import LIGHT, Theme
from . import command, equal_budget

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.samples.sample import Sample

METHODS = {
    "swiftvlm": "selected layers, bypass",
    "unmerged": "the same layers, bypass without merged tokens",
    "drop": "the same layers, drop",
    "fastv": "one drop after a layer",
    "random": "one random drop after a layer",
}
"""The arms and what the table calls them."""
BYPASS = "swiftvlm"
PAIRS = {method: (BYPASS, method) for method in METHODS if method != BYPASS}
"""What the bypass leads."""


def schedules(
    vlm: VLM, budget: Budget, layers: Sequence[int], n_visual: int
) -> dict[str, Schedule]:
    """The schedule of every method at one budget, in the order of `METHODS`."""

    def preset(name: str, chosen: Sequence[int] | None = None) -> Schedule:
        return Schedule.preset(name, vlm, budget=budget, layers=chosen, n_visual=n_visual)

    return {
        "swiftvlm": preset("swiftvlm", layers),
        "unmerged": preset("swiftvlm-unmerged", layers),
        "drop": preset("drop", layers),
        "fastv": preset("fastv"),
        "random": preset("random"),
    }


def compute(
    vlm: VLM,
    samples: Sequence[Sample],
    layers: Mapping[Budget, Sequence[int]],
    out: Path,
    **options: Any,
) -> pd.DataFrame:
    """Run every method at every budget; a row's lead is that of the bypass over its method.

    Arguments, table and errors are those of `equal_budget.run`.
    """
    return equal_budget.run(vlm, samples, layers, out, schedules, PAIRS, **options)


def plot(table: pd.DataFrame, *, theme: Theme = LIGHT) -> Figure:
    """What each method retains of the unpruned score, with its interval: budgets by tasks."""
    return equal_budget.plot(table, METHODS, theme=theme)


def markdown(table: pd.DataFrame) -> str:
    """What each method retains, as `equal_budget.markdown` writes it."""
    return equal_budget.markdown(table, METHODS)


def differences_markdown(table: pd.DataFrame) -> str:
    """By how many points the bypass leads each other method, a column per task, with intervals."""
    others = {method: METHODS[method] for method in PAIRS}
    return equal_budget.differences_markdown(table, others, "the bypass against")


def main() -> None:
    """Profile the model where that was not done yet, choose layers, run, print the tables."""
    description = "The chosen layers with and without bypass against one early drop."
    command.run(command.arguments("baselines", description), _tables)


def _tables(options: Namespace) -> str:
    table = equal_budget.measured(options, "baselines", compute)
    return f"{markdown(table)}\n\n{differences_markdown(table)}"


if __name__ == "__main__":
    main()
