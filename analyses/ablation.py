"""What does each part of the method add? One part after another, at equal budget.

    python -m tokenlens.analyses.ablation --budget 33% --budget 22%

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
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from tokenlens.errors import BudgetError
from tokenlens.pruning.methods.pdrop import early_layers
from tokenlens.schedule import ModelRef, Schedule, Stage
from tokenlens.selection.budget import Budget, solved_schedule
from tokenlens.selection.stages import swiftvlm_stages

from . import command, equal_budget
from .style import LIGHT, Theme

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
    bypass = swiftvlm_stages(layers)

    def solved(stages: Sequence[Stage]) -> Schedule:
        return solved_schedule("ablation", model, stages, budget, n_visual=n_visual)

    return {
        "pdrop": _pdrop(model, budget, n_visual),
        "selection": solved([_changed(stage, disposal="drop", merge=0) for stage in bypass]),
        "merging": solved(
            [
                _changed(stage, disposal="drop" if stage is bypass[-1] else "merge")
                for stage in bypass
            ]
        ),
        "bypass": solved(bypass),
        "unmerged": solved([_changed(stage, merge=0) for stage in bypass]),
    }


def _pdrop(model: ModelRef, budget: Budget, n_visual: int) -> Schedule:
    """PDrop with kept positions at its own layers, or where they are too deep, at earlier ones."""

    def preset(layers: Sequence[int] | None) -> Schedule:
        return Schedule.preset(
            "pdrop-keep-positions", model, budget=budget, layers=layers, n_visual=n_visual
        )

    try:
        return preset(None)
    except BudgetError:
        return preset(early_layers(model.layers))


def _changed(stage: Stage, **changes: str | int) -> Stage:
    return stage.model_copy(update=changes)


def compute(
    vlm: VLM,
    samples: Sequence[Sample],
    layers: Mapping[Budget, Sequence[int]],
    out: Path,
    *,
    n_visual: int,
    batch_size: int = 8,
    show_progress: bool = False,
) -> pd.DataFrame:
    """Run every step at every budget; the unpruned model answers once for all of them.

    Args:
        vlm: a model with its processor.
        samples: held-out samples.
        layers: for each budget the chosen layers, counted from 1.
        out: directory for the rows; an interrupted run continues there.
        n_visual: visual tokens per sample that the budgets are solved for.
        batch_size: samples per batch.
        show_progress: show a bar with an ETA on standard error.

    Returns:
        The table of `equal_budget.run`; a row's lead is over the step before.

    Raises:
        BudgetError: a step cannot meet a budget; the message says what it can.
    """
    plans = {budget: schedules(vlm, budget, chosen, n_visual) for budget, chosen in layers.items()}
    return equal_budget.run(
        vlm, samples, plans, PAIRS, out, batch_size=batch_size, show_progress=show_progress
    )


def plot(table: pd.DataFrame, *, theme: Theme = LIGHT) -> Figure:
    """What each step retains of the unpruned score, with its interval: budgets by tasks."""
    return equal_budget.plot(table, STEPS, theme=theme)


def markdown(table: pd.DataFrame) -> str:
    """Both tables: what each step retains, and its lead over the step before."""
    steps = {step: STEPS[step] for step in PAIRS}
    leads = equal_budget.leads_markdown(table, steps, "step, against the row before")
    return f"{equal_budget.markdown(table, STEPS)}\n\n{leads}"


def main() -> None:
    """Profile the model where that was not done yet, choose layers, run, print both tables."""
    description = "Each part of SwiftVLM added in turn, at equal budget."
    command.run(command.arguments("ablation", description), _tables)


def _tables(options: Namespace) -> str:
    from tokenlens.selection.plan import plan

    setting = command.Setting.of(options, "ablation")
    chosen = {
        budget: plan(setting.profile, stages=setting.stages, budget=budget)
        for budget in setting.budgets
    }
    table = compute(
        setting.vlm,
        setting.held_out,
        {budget: selection.layers for budget, selection in chosen.items()},
        setting.out,
        n_visual=next(iter(chosen.values())).n_visual,
        batch_size=setting.batch_size,
        show_progress=True,
    )
    return markdown(table)


if __name__ == "__main__":
    main()
