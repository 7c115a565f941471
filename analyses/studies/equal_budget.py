"""Comparison of pruning methods at equal budgets: runs, paired differences, tables, a figure.

The code is shared by studies of different methods. A method has a name, a schedule at every budget,
and a row in a table. A *lead* is the mean difference of scores between two methods on the same
samples. `ablation` and `baselines` list their methods and are commands.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tokenlens.evaluation.comparing.compare import compare
from tokenlens.evaluation.comparing.comparison import UNPRUNED, Comparison
from tokenlens.evaluation.running.results import ALL, MACRO
from tokenlens.wording.figures import interval_cell, percent

from ..drawing.canvas import panels
from ..drawing.style import LIGHT, Theme, shorten, themed
from . import command
from .paired_difference import markdown_table, paired_difference

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.samples.sample import Sample
    from tokenlens.schedule import Schedule
    from tokenlens.selection.solve import Budget

Schedules = Callable[["VLM", "Budget", Sequence[int], int], Mapping[str, "Schedule"]]
"""Makes the methods' schedules from model, budget, chosen layers and visual tokens per sample."""
Pairs = Mapping[str, tuple[str, str]]
"""Per method's row the two methods whose difference it shows, the first minus the second."""


@dataclass(frozen=True)
class Study:
    """Methods to be compared at equal budget, and the headings of their tables.

    Attributes:
        kind: name of the study's command, and of the directory of its rows.
        description: of the command, a sentence.
        names: short names of the methods, with their names in the tables.
        schedules: makes the schedule of each method at a budget.
        pairs: the methods whose rows hold a lead, and of which over which.
        against: heading of the table of leads.
    """

    kind: str
    description: str
    names: Mapping[str, str]
    schedules: Schedules
    pairs: Pairs
    against: str

    def compute(
        self,
        vlm: VLM,
        samples: Sequence[Sample],
        layers: Mapping[Budget, Sequence[int]],
        out: Path,
        **options: Any,
    ) -> pd.DataFrame:
        """Run every method at every budget; arguments, table and errors are those of `run`."""
        return run(vlm, samples, layers, out, self.schedules, self.pairs, **options)

    def plot(
        self,
        table: pd.DataFrame,
        *,
        axes: Sequence[Axes] | None = None,
        theme: Theme = LIGHT,
    ) -> Figure:
        """What each method retains of the unpruned score, with its interval: budgets by tasks."""
        return plot(table, self.names, axes=axes, theme=theme)

    def retained_markdown(self, table: pd.DataFrame) -> str:
        """What each method retains, as `markdown` writes it."""
        return markdown(table, self.names)

    def leads_markdown(self, table: pd.DataFrame) -> str:
        """The leads in points of score, a column per task, with intervals."""
        ahead = {method: self.names[method] for method in self.pairs}
        return differences_markdown(table, ahead, self.against)

    def markdown(self, table: pd.DataFrame) -> str:
        """Both tables: what each method retains, and the leads."""
        return f"{self.retained_markdown(table)}\n\n{self.leads_markdown(table)}"

    def main(self) -> None:
        """Profile the model where needed, choose layers, run, and print both tables."""
        command.run(
            command.arguments(self.kind, self.description),
            lambda options: self.markdown(measured(options, self.kind, self.compute)),
        )


def run(
    vlm: VLM,
    samples: Sequence[Sample],
    layers: Mapping[Budget, Sequence[int]],
    out: Path,
    schedules: Schedules,
    pairs: Pairs,
    *,
    n_visual: int,
    batch_size: int = 8,
    show_progress: bool = False,
) -> pd.DataFrame:
    """Run every method at every budget; the unpruned model answers once for all of them.

    Args:
        vlm: a model with its processor.
        samples: held-out samples.
        layers: for each budget the chosen layers, counted from 1.
        out: directory for the rows; an interrupted run continues there.
        schedules: makes the schedule of each method at a budget, by a name without spaces.
        pairs: the methods whose rows hold a lead, and of which over which.
        n_visual: visual tokens per sample that the budgets are solved for.
        batch_size: samples per batch.
        show_progress: show a bar with an ETA on standard error.

    Returns:
        `Comparison.table()` with `method`, `budget` and `layers` (the scoring layers) in place of
        `arm`; budget and layers of the unpruned model are empty. `lead` is the mean difference of
        scores on the same samples, `lead_low` and `lead_high` its 95 % paired bootstrap interval;
        NaN for methods without a pair, the unpruned model and the macro average.

    Raises:
        BudgetError: a method cannot meet a budget; the message says what it can.
    """
    arms = {
        f"{method} {budget}": schedule
        for budget, chosen in layers.items()
        for method, schedule in schedules(vlm, budget, chosen, n_visual).items()
    }
    comparison = compare(
        vlm, samples, arms, out, batch_size=batch_size, show_progress=show_progress, timed=False
    )
    table = comparison.table()
    table[["lead", "lead_low", "lead_high"]] = [
        _paired_difference(comparison, pairs, arm, task)
        for arm, task in zip(table["arm"], table["task"], strict=True)
    ]
    names = table.pop("arm").str.partition(" ")
    table.insert(1, "method", names[0])
    table.insert(2, "budget", names[2])
    scored = {
        name: ", ".join(str(stage.score_layer) for stage in schedule.stages)
        for name, schedule in arms.items()
    }
    table.insert(3, "layers", names.agg("".join, axis=1).map(scored).fillna(""))
    return table


def measured(options: Namespace, kind: str, compute: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Result of `compute` for the options of a command; layers are chosen from the profile."""
    from tokenlens.methods.plan import plan

    setting = command.Setting.of(options, kind)
    chosen = {
        budget: plan(setting.profile, stages=setting.stages, budget=budget)
        for budget in setting.budgets
    }
    return compute(
        setting.vlm,
        setting.held_out,
        {budget: selection.layers for budget, selection in chosen.items()},
        setting.out,
        n_visual=next(iter(chosen.values())).n_visual,
        batch_size=setting.batch_size,
        show_progress=True,
    )


def _paired_difference(
    comparison: Comparison, pairs: Pairs, arm: str, task: str
) -> tuple[float, float, float]:
    """Mean paired difference that the row of an arm shows, and the interval's ends."""
    method, _, budget = arm.partition(" ")
    if method not in pairs or task == MACRO:
        return nan, nan, nan
    ours, theirs = (f"{name} {budget}" for name in pairs[method])
    return paired_difference(comparison, ours, theirs, task)


def plot(
    table: pd.DataFrame,
    names: Mapping[str, str],
    *,
    axes: Sequence[Axes] | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """What each of `names` retains of the unpruned score, with its interval: budgets by tasks."""
    table = table[(table["task"] != MACRO) & (table["method"] != UNPRUNED)]
    budgets, tasks = table["budget"].unique(), table["task"].unique()
    places = {method: place for place, method in enumerate(names)}
    with themed(theme):
        size, shape = (theme.width, 0.5 + 1.1 * len(budgets)), (len(budgets), len(tasks))
        figure, grid = panels(axes, size, shape, sharex=True, sharey=True)
        for (budget, task), part in table.groupby(["budget", "task"], sort=False):
            panel = grid[list(budgets).index(budget), list(tasks).index(task)]
            panel.axvline(1, color=theme.faint, linewidth=0.9, linestyle=(0, (4, 3)))
            for row in part.itertuples():
                panel.errorbar(
                    row.retained,
                    places[row.method],
                    xerr=[[row.retained - row.retained_low], [row.retained_high - row.retained]],
                    fmt="o",
                    color=theme.series[places[row.method]],
                    markersize=4,
                    capsize=2,
                )
            panel.grid(axis="x")
            panel.spines[["top", "right"]].set_visible(False)
        for panel, task in zip(grid[0], tasks, strict=True):
            panel.set_title(shorten(task, 14))
        for panel, budget in zip(grid[:, 0], budgets, strict=True):
            panel.set_ylabel(budget)
        grid[0, 0].set_yticks(list(places.values()), list(names.values()))
        grid[0, 0].set_ylim(len(names) - 0.5, -0.5)
        grid[0, 0].xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
        figure.supxlabel("score retained", fontsize=8)
    return figure


def markdown(table: pd.DataFrame, names: Mapping[str, str]) -> str:
    """The table in Markdown: one row per budget and method, one column per task.

    The unpruned model's row gives scores, the others what is retained of them, both in per cent
    with 95 % bootstrap intervals; the number of samples is in brackets behind the task.
    """
    unpruned = table[(table["method"] == UNPRUNED) & (table["task"] != MACRO)].set_index("task")
    tasks, whole = unpruned.index, unpruned.loc[ALL]
    heads = ["budget", "method", "visual tokens per layer", "prefill MACs"]
    heads += [f"{task} ({samples})" for task, samples in unpruned["samples"].items()]
    lines = []
    for (budget, method), part in table.groupby(["budget", "method"], sort=False):
        rows = part.set_index("task")
        kind = "score" if method == UNPRUNED else "retained"
        ends = [kind, f"{kind}_low", f"{kind}_high"]
        tokens, macs = rows.loc[ALL, ["tokens", "macs"]]
        lines.append(
            [
                budget,
                f"{names[method]} ({rows['layers'].iloc[0]})"
                if method in names
                else f"{method} (scores)",
                f"{tokens:.1f} ({percent(tokens / whole['tokens'], 1)})",
                f"{macs / 1e9:.3g} G ({percent(macs / whole['macs'], 1)})",
                *(interval_cell(*rows.loc[task, ends]) for task in tasks),
            ]
        )
    return markdown_table(heads, lines, words=2)


def differences_markdown(table: pd.DataFrame, names: Mapping[str, str], heading: str) -> str:
    """The leads in points of score with their intervals: a row per method that has one.

    `names` says which methods and what the table calls them under `heading`.
    """
    rows = table[(table["task"] != MACRO) & table["method"].isin(list(names))]
    tasks = list(rows["task"].unique())
    lines = []
    for (budget, method), part in rows.groupby(["budget", "method"], sort=False):
        leads = part.set_index("task")[["lead", "lead_low", "lead_high"]]
        lines.append([budget, names[method], *(interval_cell(*leads.loc[task]) for task in tasks)])
    return markdown_table(["budget", heading, *tasks], lines, words=2)
