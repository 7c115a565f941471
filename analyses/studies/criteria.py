"""Does one pass choose layers as well as layers + 1 passes do? A comparison of the criteria.

    python -m tokenlens.analyses.studies.criteria --model tiny-qwen2-vl --budget 33% --budget 22%

The region criterion reads one profile. The capability criterion, the paper's own, runs the model
again for every layer (arXiv 2602.03134, Fig. 4). For these, for the other criteria that read a
profile, and for agreement where `tokenlens information` has measured it without labels, the study
reports: the scores of the layers and how alike they are (agreement's aside), the layers chosen at
each budget, the scores that SwiftVLM schedules with these layers retain on held-out samples, and
the cost of the choice. Criteria that choose the same layers share their answers.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from tokenlens.evaluation.capability import capability_of, measure
from tokenlens.evaluation.comparing.compare import compare
from tokenlens.evaluation.comparing.comparison import UNPRUNED, Comparison
from tokenlens.evaluation.running.results import ALL, MACRO
from tokenlens.methods.plan import Selection, plan
from tokenlens.selection.criteria import CRITERIA, Capability
from tokenlens.selection.criterion_names import AGREEMENT, CAPABILITY
from tokenlens.wording.figures import interval_cell, percent

from . import command, criteria_agreement, criteria_scores, criteria_stability
from .criteria_scores import Choices
from .paired_difference import markdown_table, paired_difference

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.samples.sample import Sample


def compute(
    vlm: VLM,
    samples: Sequence[Sample],
    choices: Choices,
    out: Path,
    *,
    batch_size: int = 8,
    show_progress: bool = False,
) -> pd.DataFrame:
    """Run the schedule of every choice on held-out samples.

    Args:
        vlm: the model the layers were chosen for.
        samples: held-out samples.
        choices: chosen layers; one choice must be by capability.
        out: directory for the rows; an interrupted run continues there.
        batch_size: samples per batch.
        show_progress: show a bar with an ETA on standard error.

    Returns:
        `Comparison.table()`'s rows of every budget and criterion, with `budget`, `criterion` and
        `layers` in place of `arm`; those of the unpruned model are empty. `lead` is the score minus
        that of capability's choice at the same budget, `lead_low` and `lead_high` the 95 % paired
        bootstrap interval; NaN for capability itself and for the macro average.
    """
    arms = {
        _arm(budget, selection): selection.schedule
        for budget, by_criterion in choices.items()
        for selection in by_criterion.values()
    }
    comparison = compare(
        vlm, samples, arms, out, batch_size=batch_size, show_progress=show_progress, timed=False
    )
    table = comparison.table()
    whole = table[table["arm"] == UNPRUNED].assign(budget="", criterion=UNPRUNED, layers="")
    parts = [whole.assign(lead=nan, lead_low=nan, lead_high=nan)]
    for budget, by_criterion in choices.items():
        theirs = _arm(budget, by_criterion[CAPABILITY])
        for name, selection in by_criterion.items():
            ours = _arm(budget, selection)
            part = table[table["arm"] == ours].assign(budget=budget, criterion=name)
            part["layers"] = _listed(selection.layers)
            compared = name != CAPABILITY
            part[["lead", "lead_low", "lead_high"]] = [
                paired_difference(comparison, ours, theirs, task)
                if compared and task != MACRO
                else [nan] * 3
                for task in part["task"]
            ]
            parts.append(part)
    return pd.concat(parts, ignore_index=True).drop(columns="arm")


def _arm(budget: str, selection: Selection) -> str:
    return f"layers {_listed(selection.layers)} at {budget}"


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))


def markdown(table: pd.DataFrame) -> str:
    """Held-out scores in per cent: a row per budget and choice, a column per task, then `all`.

    The last column is the difference from capability's choice over all samples, in points.
    """
    table = table[table["task"] != MACRO]
    whole = table[table["criterion"] == UNPRUNED].set_index("task")
    heads = ["budget", "chosen by", "layers", "visual tokens per layer"]
    heads += [f"{task} ({samples})" for task, samples in whole["samples"].items()]
    rows = []
    for (budget, layers), part in table.groupby(["budget", "layers"], sort=False):
        names = part["criterion"].unique()
        scores = part[part["criterion"] == names[-1]].set_index("task")
        everything = scores.loc[ALL]
        cells = [
            interval_cell(*scores.loc[task, ["score", "score_low", "score_high"]])
            for task in whole.index
        ]
        led = interval_cell(*everything[["lead", "lead_low", "lead_high"]])
        share = percent(everything["tokens"] / whole.loc[ALL, "tokens"], 1)
        rows.append([budget, ", ".join(names), layers, share, *cells, led])
    return markdown_table([*heads, "against capability"], rows, words=3)


def costs(reruns: Comparison, measured: Sequence[str] = (CAPABILITY,)) -> pd.DataFrame:
    """Cost of scoring the layers: columns criterion, passes, macs (per sample).

    Criteria that read a profile need one recording pass; those that are `measured` need it too, and
    one run per layer and one unpruned run. MACs are means over the decoder's prefills; agreement's
    passes hold the answer as well, whose few tokens are not counted.
    """
    rows = [results.rows for results in reruns.arms.values()]
    whole = reruns.arms[UNPRUNED].rows
    macs = whole["macs"].mean()
    cheap = [(name, 1, macs) for name in CRITERIA]
    every = macs + sum(part["macs"].mean() for part in rows)
    dear = [(name, len(rows), every) for name in measured]
    return pd.DataFrame([*cheap, *dear], columns=["criterion", "passes", "macs"])


def costs_markdown(table: pd.DataFrame) -> str:
    """A row per criterion; costs are relative to the first one's."""
    one = table.iloc[0]
    rows = [
        [
            row.criterion,
            str(row.passes),
            f"{row.macs / 1e9:.3g} G ({row.macs / one.macs:.1f})",
        ]
        for row in table.itertuples()
    ]
    heads = ["criterion", "passes", "prefill MACs per sample"]
    return markdown_table(heads, rows)


def main() -> None:
    """Measure what is missing, choose by every criterion, run the choices, and print the tables."""
    parser = command.arguments("criteria", "Layers chosen by one pass and by layers + 1 passes.")
    command.run(parser, _tables)


def _tables(options: Namespace) -> str:
    from tokenlens.evaluation.comparing.arms import information_for
    from tokenlens.evaluation.profile_inputs import profiled_samples
    from tokenlens.storage.output_paths import capability_directory

    setting = command.Setting.of(options, "criteria")
    calibration = profiled_samples(setting.profile)
    reruns = measure(
        setting.vlm,
        calibration,
        capability_directory(options.model, calibration.name, len(calibration)),
        batch_size=setting.batch_size,
        show_progress=True,
    )
    known = information_for(setting.vlm)
    measured = {AGREEMENT: known.as_capability()} if known else {}
    measured[CAPABILITY] = capability_of(reruns, options.data)
    by: dict[str, str | Capability] = {**{name: name for name in CRITERIA}, **measured}
    choices = {
        str(budget): {
            name: plan(setting.profile, stages=setting.stages, criterion=criterion, budget=budget)
            for name, criterion in by.items()
        }
        for budget in setting.budgets
    }
    table = compute(
        setting.vlm,
        setting.held_out,
        choices,
        setting.out,
        batch_size=setting.batch_size,
        show_progress=True,
    )
    drawn = criteria_agreement.draw(setting.profile, reruns)
    return "\n\n".join(
        (
            criteria_scores.markdown(criteria_scores.compute(choices)),
            criteria_agreement.markdown(criteria_agreement.compute(drawn)),
            criteria_stability.markdown(criteria_stability.compute(drawn, choices, setting.stages)),
            markdown(table),
            costs_markdown(costs(reruns, list(measured))),
        )
    )


if __name__ == "__main__":
    main()
