"""Sections about results: the retained score and the saved cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import pandas as pd

from tokenlens.analyses import (
    layers_by_method,
    methods_at_budgets,
    retained,
    tokens_per_layer,
)
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.evaluation.comparing.table_files import headings, lines, notes, own_notes, title
from tokenlens.evaluation.comparing.tables import budget_tables
from tokenlens.evaluation.metrics.agreement import scoring_note
from tokenlens.evaluation.running.results import ALL
from tokenlens.reports.figures import FigureFolder, Plate
from tokenlens.reports.wording import amount, saving
from tokenlens.wording.figures import percent, percent_interval

_NONE = "\N{EM DASH}"


@dataclass(frozen=True)
class Stat:
    """One number of the headline."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class BudgetView:
    """A table of methods at one budget as the page shows it: cells (figure, interval, best)."""

    title: str
    headings: list[str]
    lines: list[tuple[str, list[tuple[str, str, bool]]]]
    notes: list[str]


@dataclass(frozen=True)
class ResultSection:
    """The tables of results and their figures; where `budgets` exist, they replace `scores`.

    Each figure has a text below it. `scoring` says what is measured where samples lack ground
    truth; it is empty where none does.
    """

    scores: list[tuple[str, list[dict[str, Any]]]]
    budgets: list[BudgetView]
    notes: list[str]
    scoring: str
    arms: list[str]
    reported: list[tuple[str, str, list[str]]]
    costs: list[dict[str, Any]]
    timed: bool
    dtype: str
    figures: list[tuple[Plate, str]]


def headline_stats(comparison: Comparison, arm: str) -> list[Stat]:
    """What an arm retains and saves, over all samples."""
    table = comparison.table()
    rows = table[table["task"] == ALL].set_index("arm")
    before, after = rows.iloc[0], rows.loc[arm]
    timed = not isnan(after["prefill_s"] + before["prefill_s"])
    words = (
        f"{_milliseconds(after['prefill_s'])} of {_milliseconds(before['prefill_s'])}, "
        "vision tower included"
    )
    return [
        _agreed(after)
        if after["unscored"] == after["samples"]
        else Stat("score retained", *_retained(before, after)),
        Stat(
            "visual tokens",
            _ratio(after["tokens"], before["tokens"]),
            f"{after['tokens']:.1f} of {before['tokens']:.1f} per layer, on average",
        ),
        _saved("prefill MACs", before["macs"], after["macs"]),
        _saved("KV cache", before["kv_bytes"], after["kv_bytes"], "B", 1024),
        Stat(
            "prefill time",
            saving(after["prefill_s"] / before["prefill_s"]) if timed else _NONE,
            words if timed else "not measured",
        ),
    ]


def _retained(before: pd.Series, after: pd.Series) -> tuple[str, str]:
    """Share that an arm retains, with its interval or the reason why it is not defined."""
    if not isnan(after["retained"]):
        ends = percent_interval(after["retained_low"], after["retained_high"])
        return percent(after["retained"], 1), f"{ends}, 95 % interval"
    if isnan(before["score"]):
        return _NONE, "no sample is scored"
    return _NONE, "the unpruned model scores 0"


def _ratio(after: float, before: float) -> str:
    return percent(after / before, 1) if before else _NONE


def result_section(
    comparison: Comparison, chosen: Sequence[int], figures: FigureFolder
) -> ResultSection:
    """Scores and costs of every arm, the tokens each layer ran on, and quality against cost."""
    table = comparison.table()
    baseline = table[table["task"] == ALL].iloc[0]
    tables = budget_tables(comparison) if comparison.plan else []
    return ResultSection(
        scores=[
            (str(task), [_score_row(row, baseline["arm"]) for row in part.to_dict("records")])
            for task, part in table.groupby("task", sort=False)
        ],
        budgets=[
            BudgetView(title(one), headings(one), lines(one), own_notes(one)) for one in tables
        ],
        notes=notes(tables[0]) if tables else [],
        scoring=scoring_note(next(iter(comparison.arms.values())).outcomes),
        arms=list(comparison.arms),
        reported=comparison.reported(),
        costs=[_cost_row(row, baseline) for row in table[table["task"] == ALL].to_dict("records")],
        timed=not table["prefill_s"].isna().any(),
        dtype=next(iter(comparison.arms.values())).identity["model"]["dtype"],
        figures=_many_figures(comparison, figures)
        if tables
        else _few_figures(comparison, chosen, figures),
    )


def _few_figures(
    comparison: Comparison, chosen: Sequence[int], figures: FigureFolder
) -> list[tuple[Plate, str]]:
    """Figures with a line and a point per arm, for a small number of arms."""
    tokens, quality = tokens_per_layer.compute(comparison), retained.compute(comparison)
    averages = ", ".join(
        f"{arm}: {part['tokens'].mean():.1f}" for arm, part in tokens.groupby("arm", sort=False)
    )
    found = [
        (
            figures.plate(
                "tokens-per-layer",
                lambda theme: tokens_per_layer.plot(tokens, chosen=chosen, theme=theme),
                f"Steps: visual tokens entering each layer. Averages: {averages}.",
            ),
            "Visual tokens entering each layer, merged ones counted; the marks on the right are "
            "the averages over layers.",
        )
    ]
    if quality["retained"].isna().all():
        return found
    return [
        *found,
        (
            figures.plate(
                "quality-against-cost",
                lambda theme: retained.plot(quality, theme=theme),
                f"Points with intervals: {quality['quality'].iloc[0]} against prefill MACs, a "
                "panel per task.",
            ),
            f"{quality['quality'].iloc[0].capitalize()} against the share of prefill MACs, with "
            "95 % intervals; samples in brackets.",
        ),
    ]


def _many_figures(comparison: Comparison, figures: FigureFolder) -> list[tuple[Plate, str]]:
    """Figures with a row per method and the budgets side by side, for many arms."""
    averages, shares = methods_at_budgets.compute(comparison), layers_by_method.compute(comparison)
    found = []
    if not averages["retained"].dropna().empty:
        plate = figures.plate(
            "methods-at-budgets",
            lambda theme: methods_at_budgets.plot(averages, theme=theme),
            "Points with intervals: the averages that each method retains, a colour per budget.",
        )
        found.append(
            (
                plate,
                "Averages retained of the unpruned model's, with 95 % intervals; filled where the "
                "table marks a winner.",
            )
        )
    plate = figures.plate(
        "layers-by-method",
        lambda theme: layers_by_method.plot(shares, theme=theme),
        "Heat maps: the share of visual tokens that enters each layer, a row per method.",
    )
    return [*found, (plate, "Visual tokens entering each layer, merged ones counted.")]


def _score_row(row: dict[str, Any], baseline: str) -> dict[str, Any]:
    scored = not isnan(row["score"])
    ratio = row["arm"] != baseline and not isnan(row["retained"])
    return {
        "arm": row["arm"],
        "samples": row["samples"] - row["unscored"],
        "score": percent(row["score"], 1) if scored else _NONE,
        "score_interval": percent_interval(row["score_low"], row["score_high"]) if scored else "",
        "retained": percent(row["retained"], 1) if ratio else _NONE,
        "retained_interval": percent_interval(row["retained_low"], row["retained_high"])
        if ratio
        else "",
        "agreement": percent(row["agreement"], 1),
        "agreement_interval": percent_interval(row["agreement_low"], row["agreement_high"]),
    }


def _cost_row(row: dict[str, Any], baseline: pd.Series) -> dict[str, Any]:
    def share(name: str) -> str:
        known = baseline[name] and not isnan(row[name] / baseline[name])
        return percent(row[name] / baseline[name], 1) if known else _NONE

    return {
        "arm": row["arm"],
        "tokens": (f"{row['tokens']:.1f}", share("tokens")),
        "macs": (amount(row["macs"]), share("macs")),
        "overhead": amount(row["scoring_macs"] + row["merging_macs"]),
        "kv": (amount(row["kv_bytes"], "B", 1024), share("kv_bytes")),
        "prefill": (_milliseconds(row["prefill_s"]), share("prefill_s")),
        "decode": (_milliseconds(row["decode_s"]), share("decode_s")),
    }


def _agreed(row: pd.Series) -> Stat:
    """Sentences on agreement, where no sample has ground truth."""
    return Stat(
        "agreement",
        percent(row["agreement"], 1),
        f"{percent_interval(row['agreement_low'], row['agreement_high'])}, 95 % interval; answers "
        "that are the unpruned model's own, since no sample is scored",
    )


def _saved(label: str, before: float, after: float, unit: str = "", base: int = 1000) -> Stat:
    words = f"{amount(after, unit, base)} of {amount(before, unit, base)} per sample"
    return Stat(label, saving(after / before) if before else _NONE, words)


def _milliseconds(seconds: float) -> str:
    return _NONE if isnan(seconds) else f"{1000 * seconds:.3g}\N{NO-BREAK SPACE}ms"
