"""What does each part of the method add? One part after another, at equal budget.

    python -m tokenlens.analyses.studies.ablation --budget 33% --budget 22%

The paper's Table 3 in kind (SwiftVLM, arXiv 2602.03134): PDrop with kept positions; then its drops
at the layers chosen from a profile; then merged tokens for what is not kept; then the bypass, which
is the whole method. One row goes beyond the paper: the bypass without merged tokens. Two tables
are printed as Markdown: what each retains, and by how much each leads the row before it on the same
samples.

Deviations from the paper: PDrop's own stages cannot reach a small budget, and then the earlier
ones that its authors give for that are taken; the table shows the layers of every row. The last
stage of the merging row drops, as the bypass's last stage does, so that the next step adds the
bypass alone.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from tokenlens.methods import find_method
from tokenlens.methods.swiftvlm_stages import swiftvlm_stages
from tokenlens.schedule import ModelRef, Schedule
from tokenlens.selection.solve import Budget, solved_schedule

from ..drawing.style import LIGHT, Theme
from . import command, equal_budget

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.samples.sample import Sample

STEPS = {
    "pdrop": "PDrop with kept positions",
    "selection": "+ layer selection",
    "merging": "+ merging",
    "bypass": "+ bypass (SwiftVLM)",
    "unmerged": "\N{MINUS SIGN} merging (bypass alone)",
}
"""The arms, each a step from the one before, and what the table calls them."""
PAIRS = {step: (step, before) for before, step in pairwise(STEPS)}
"""Each step leads the one before."""


def schedules(
    vlm: VLM | ModelRef, budget: Budget, layers: Sequence[int], n_visual: int
) -> dict[str, Schedule]:
    """The schedule of every step at one budget, in the order of `STEPS`.

    Args:
        vlm: the model, or what a schedule says of it.
        budget: visual tokens entering a layer, mean over layers.
        layers: the chosen layers, counted from 1.
        n_visual: visual tokens per sample that the budget is solved for.

    Raises:
        BudgetError: a step cannot meet the budget; the message says what it can.
    """
    model = vlm if isinstance(vlm, ModelRef) else ModelRef.of(vlm)

    def preset(name: str) -> Schedule:
        return Schedule.preset(name, model, budget=budget, layers=layers, n_visual=n_visual)

    pdrop, _ = find_method("pdrop-keep-positions").build_or_earlier(
        model, budget=budget, n_visual=n_visual
    )
    merging = [
        stage.model_copy(update={"disposal": "merge"} if stage.merge else {})
        for stage in swiftvlm_stages(layers)
    ]
    return {
        "pdrop": pdrop,
        "selection": preset("drop"),
        "merging": solved_schedule("merging", model, merging, budget, n_visual=n_visual),
        "bypass": preset("swiftvlm"),
        "unmerged": preset("swiftvlm-unmerged"),
    }


def compute(
    vlm: VLM,
    samples: Sequence[Sample],
    layers: Mapping[Budget, Sequence[int]],
    out: Path,
    **options: Any,
) -> pd.DataFrame:
    """Run every step at every budget; a row's lead is over the step before.

    Arguments, table and errors are those of `equal_budget.run`.
    """
    return equal_budget.run(vlm, samples, layers, out, schedules, PAIRS, **options)


def plot(table: pd.DataFrame, *, theme: Theme = LIGHT) -> Figure:
    """What each step retains of the unpruned score, with its interval: budgets by tasks."""
    return equal_budget.plot(table, STEPS, theme=theme)


def markdown(table: pd.DataFrame) -> str:
    """Both tables: what each step retains, and its lead over the step before."""
    steps = {step: STEPS[step] for step in PAIRS}
    leads = equal_budget.differences_markdown(table, steps, "step, against the row before")
    return f"{equal_budget.markdown(table, STEPS)}\n\n{leads}"


def main() -> None:
    """Profile the model where that was not done yet, choose layers, run, print both tables."""
    description = "Each part of SwiftVLM added in turn, at equal budget."
    command.run(command.arguments("ablation", description), _tables)


def _tables(options: Namespace) -> str:
    return markdown(equal_budget.measured(options, "ablation", compute))


if __name__ == "__main__":
    main()
