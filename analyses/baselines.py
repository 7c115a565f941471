"""Is the bypass worth it? The chosen layers with and without it, against one early drop.

    python -m tokenlens.analyses.baselines --budget 33% --budget 22%

At every budget (visual tokens entering a layer, mean over layers) five ways of pruning are run on
the same held-out samples: the chosen layers with bypass, the same without merged tokens, the same
layers dropping what they do not choose, one drop after layer 2, and one random drop there. Two
tables are printed as Markdown: what each retains, and by how much the bypass leads each of the
others on the same samples.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tokenlens.errors import TokenlensError
from tokenlens.evaluation.comparison import UNPRUNED, Comparison, compare
from tokenlens.evaluation.results import ALL, MACRO
from tokenlens.measures.intervals import paired_difference_interval
from tokenlens.schedule import ModelRef, Schedule
from tokenlens.selection.budget import Budget, parse_budget, solved_schedule
from tokenlens.selection.stages import swiftvlm_stages

from .style import LIGHT, PAGE, Theme, percent, shorten, themed

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
BUDGETS = ("33%", "22%")


def schedules(
    vlm: VLM, budget: Budget, layers: Sequence[int], n_visual: int
) -> dict[str, Schedule]:
    """The schedule of every method at one budget, in the order of `METHODS`."""

    def preset(name: str, chosen: Sequence[int] | None = None) -> Schedule:
        return Schedule.preset(name, vlm, budget=budget, layers=chosen, n_visual=n_visual)

    unmerged = [stage.model_copy(update={"merge": 0}) for stage in swiftvlm_stages(layers)]
    return {
        "swiftvlm": preset("swiftvlm", layers),
        "unmerged": solved_schedule(
            "swiftvlm", ModelRef.of(vlm), unmerged, budget, n_visual=n_visual
        ),
        "drop": preset("drop", layers),
        "fastv": preset("fastv"),
        "random": preset("random"),
    }


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
    """Run every method at every budget; the unpruned model answers once for all of them.

    Args:
        vlm: a model with its processor.
        samples: held-out samples.
        layers: for each budget the chosen layers, counted from 1.
        out: directory for the rows; an interrupted run continues there.
        n_visual: visual tokens per sample that the budgets are solved for.
        batch_size: samples per batch.
        show_progress: show a bar with an ETA on standard error.

    Returns:
        `Comparison.table()` with `method`, `budget` and `layers` (the scoring layers) in place of
        `arm`; budget and layers of the unpruned model are empty. `lead` is the score of the bypass
        at the same budget minus this arm's, `lead_low` and `lead_high` its 95 % paired bootstrap
        interval; NaN for the bypass itself, the unpruned model and the macro average.

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
        _lead(comparison, arm, task) for arm, task in zip(table["arm"], table["task"], strict=True)
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


def _lead(comparison: Comparison, arm: str, task: str) -> tuple[float, float, float]:
    """Mean paired difference of the bypass from an arm of its budget, and the interval's ends."""
    method, _, budget = arm.partition(" ")
    if arm == UNPRUNED or method == BYPASS or task == MACRO:
        return nan, nan, nan
    ours, theirs = (comparison.arms[name].rows for name in (f"{BYPASS} {budget}", arm))
    asked = ours["score"].notna() & ((ours["task"] == task) | (task == ALL))
    ends = paired_difference_interval(theirs.loc[asked, "score"], ours.loc[asked, "score"])
    return tuple(map(float, ends))  # type: ignore[return-value]


def plot(table: pd.DataFrame, *, theme: Theme = LIGHT) -> Figure:
    """What each method retains of the unpruned score, with its interval: budgets by tasks."""
    table = table[(table["task"] != MACRO) & (table["method"] != UNPRUNED)]
    budgets, tasks = table["budget"].unique(), table["task"].unique()
    places = {method: place for place, method in enumerate(METHODS)}
    with themed(theme):
        figure = Figure(figsize=(PAGE, 0.5 + 1.1 * len(budgets)), layout="constrained")
        grid = figure.subplots(len(budgets), len(tasks), sharex=True, sharey=True, squeeze=False)
        for (budget, task), part in table.groupby(["budget", "task"], sort=False):
            axes = grid[list(budgets).index(budget), list(tasks).index(task)]
            axes.axvline(1, color=theme.faint, linewidth=0.9, linestyle=(0, (4, 3)))
            for row in part.itertuples():
                axes.errorbar(
                    row.retained,
                    places[row.method],
                    xerr=[[row.retained - row.retained_low], [row.retained_high - row.retained]],
                    fmt="o",
                    color=theme.series[places[row.method]],
                    markersize=4,
                    capsize=2,
                )
            axes.grid(axis="x")
            axes.spines[["top", "right"]].set_visible(False)
        for axes, task in zip(grid[0], tasks, strict=True):
            axes.set_title(shorten(task, 14))
        for axes, budget in zip(grid[:, 0], budgets, strict=True):
            axes.set_ylabel(budget)
        grid[0, 0].set_yticks(list(places.values()), list(METHODS.values()))
        grid[0, 0].set_ylim(len(METHODS) - 0.5, -0.5)
        grid[0, 0].xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
        figure.supxlabel("score retained", fontsize=8)
    return figure


def markdown(table: pd.DataFrame) -> str:
    """The table in Markdown: one row per budget and method, one column per task.

    The unpruned model's row gives scores, the others what is retained of them, both in per cent
    with 95 % bootstrap intervals; the number of samples is in brackets behind the task.
    """
    unpruned = table[(table["method"] == UNPRUNED) & (table["task"] != MACRO)].set_index("task")
    tasks, whole = unpruned.index, unpruned.loc[ALL]
    heads = ["budget", "method", "visual tokens per layer", "prefill MACs"]
    heads += [f"{task} ({samples})" for task, samples in unpruned["samples"].items()]
    lines = [heads, ["---"] * 2 + ["---:"] * (len(heads) - 2)]
    for (budget, method), part in table.groupby(["budget", "method"], sort=False):
        rows = part.set_index("task")
        kind = "score" if method == UNPRUNED else "retained"
        tokens, macs = rows.loc[ALL, ["tokens", "macs"]]
        lines.append(
            [
                budget,
                f"{METHODS[method]} ({rows['layers'].iloc[0]})"
                if method in METHODS
                else f"{method} (scores)",
                f"{tokens:.1f} ({percent(tokens / whole['tokens'], 1)})",
                f"{macs / 1e9:.3g} G ({percent(macs / whole['macs'], 1)})",
                *(_cell(*rows.loc[task, [kind, f"{kind}_low", f"{kind}_high"]]) for task in tasks),
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def leads_markdown(table: pd.DataFrame) -> str:
    """By how many points the bypass leads each other method, a column per task, with intervals."""
    rows = table[(table["task"] != MACRO) & table["method"].isin(set(METHODS) - {BYPASS})]
    tasks = list(rows["task"].unique())
    lines = [["budget", "the bypass against", *tasks], ["---"] * 2 + ["---:"] * len(tasks)]
    for (budget, method), part in rows.groupby(["budget", "method"], sort=False):
        lead = part.set_index("task")[["lead", "lead_low", "lead_high"]]
        lines.append([budget, METHODS[method], *(_cell(*lead.loc[task]) for task in tasks)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(mean: float, low: float, high: float) -> str:
    """A share and its interval in per cent; a dash where there is none.

    >>> _cell(0.973, 0.959, 1.0), _cell(*3 * [float("nan")])
    ('97.3 [95.9, 100.0]', '–')
    """
    if isnan(mean):
        return "\N{EN DASH}"
    return f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def main() -> None:
    """Profile the model where that was not done yet, choose layers, run, print the table."""
    from tokenlens.models.loading import load
    from tokenlens.probing.profile import Profile, profile_samples
    from tokenlens.samples.dataset import load_samples
    from tokenlens.selection.plan import plan
    from tokenlens.workspace import ROOT, profile_directory, slug

    parser = argparse.ArgumentParser(
        prog="python -m tokenlens.analyses.baselines",
        description="The chosen layers with and without bypass against one early drop.",
    )
    parser.add_argument("--model", default="tiny-qwen2-vl", help="name, hub id or directory")
    parser.add_argument("--data", default="scenes", help="name, manifest or directory")
    parser.add_argument("--profile", type=Path, help="profile directory; made where missing")
    parser.add_argument("--stages", type=int, default=3, help="layers to choose")
    parser.add_argument("--budget", action="append", help="33%%, 48, …; may be repeated")
    parser.add_argument("--limit", type=int, help="held-out samples")
    parser.add_argument("--task", action="append", default=[], help="only this one; repeatable")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--out", type=Path, help="directory for the rows")
    options = parser.parse_args()
    try:
        vlm = load(options.model)
        if options.profile is None:
            calibration = load_samples(options.data, "calibration")
            directory = profile_directory(options.model, calibration.name)
            profile = profile_samples(vlm, calibration, directory, show_progress=True)
        else:
            profile = Profile(options.profile)
        chosen = {
            budget: plan(profile, stages=options.stages, budget=budget)
            for budget in map(parse_budget, options.budget or BUDGETS)
        }
        held_out = load_samples(options.data, "held-out", options.limit, options.task)
        name = f"{held_out.name}-{len(held_out)}"
        table = compute(
            vlm,
            held_out,
            {budget: selection.layers for budget, selection in chosen.items()},
            options.out or ROOT / slug(options.model) / f"baselines-{name}",
            n_visual=next(iter(chosen.values())).n_visual,
            batch_size=options.batch_size,
            show_progress=True,
        )
    except TokenlensError as error:
        parser.exit(2, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "interrupted; the same command continues\n")
    sys.stdout.write(f"{markdown(table)}\n\n{leads_markdown(table)}\n")


if __name__ == "__main__":
    main()
