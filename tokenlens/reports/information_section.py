"""Section about the information profile: what is lost without the picture, layer by layer."""

from dataclasses import dataclass

import pandas as pd

from tokenlens.analyses import information as analysis
from tokenlens.evaluation.information.curves import Information
from tokenlens.reports.figures import FigureFolder, Plate
from tokenlens.reports.nearby import near
from tokenlens.reports.wording import listed
from tokenlens.wording.figures import counted, percent, percent_interval

BY_TASK = ("horizon", "contribution", "capability")
"""The curves that are also drawn task by task."""
_LEAST, _LEAST_PART = 0.001, 0.05
"""Divergences that are named: in nats, and as a part of the largest."""


@dataclass(frozen=True)
class InformationSection:
    """Curves over all samples with their findings, and some of them by task.

    `table` holds, per layer, a cell (divergence, agreement, its interval) of every curve.
    """

    measured: str
    plate: Plate
    findings: list[str]
    tasks: list[tuple[str, Plate]]
    curves: list[str]
    table: list[tuple[int, list[tuple[str, str, str]]]]


def information_section(found: Information, figures: FigureFolder) -> InformationSection:
    """The curves of an information profile."""
    table = found.table()
    whole = table[table["task"] == "all"]
    findings = [_horizon(table), _own_layers(whole), _capability(whole)]
    plate = figures.plate(
        "information",
        lambda theme: analysis.overview(table, theme=theme),
        f"Curves by layer with 95 % intervals, over all samples. {' '.join(findings)}",
    )
    tasks = [
        (f"{curve}: {analysis.MEANINGS[curve]}", _by_task(table, curve, figures))
        for curve in BY_TASK
    ]
    data = found.identity["data"]
    split = f" ({data['split']})" if data["split"] else ""
    name = near(data["source"] or "samples in memory")
    measured = f"Measured on {counted(len(found.tasks), 'sample')} of {name}{split}"
    return InformationSection(
        measured, plate, findings, tasks, list(analysis.MEANINGS), _lines(whole)
    )


def _by_task(table: pd.DataFrame, curve: str, figures: FigureFolder) -> Plate:
    return figures.plate(
        f"information-{curve}",
        lambda theme: analysis.plot(table, curve, theme=theme),
        f"A curve per task with 95 % intervals: {analysis.MEANINGS[curve]}.",
    )


def _horizon(table: pd.DataFrame) -> str:
    """Sentence on the layer from which on nothing is read."""
    found = analysis.horizons(table)
    whole, tasks = found.pop("all"), set(found.values())
    if whole is None:
        return "No layer is the information horizon: visual tokens are read up to the last one."
    known = [layer for layer in tasks if layer is not None]
    between = ""
    if len(tasks) > 1 and known:
        last = "none" if None in tasks else f"layer {max(known)}"
        between = f" Task by task it lies between layer {min(known)} and {last}."
    return (
        f"Information horizon: from layer {whole} on, 99 % of the answer tokens and more stay "
        f"without any visual token (low end of the interval).{between}"
    )


def _own_layers(whole: pd.DataFrame) -> str:
    """Sentence on the layers that use visual tokens most, each taken alone."""
    parts = []
    for curve, words in (("contribution", "not updated"), ("aside", "not there")):
        rows = _rows(whole, curve, "kl").nlargest(3, "mean")
        least = max(_LEAST_PART * rows["mean"].max(), _LEAST)
        named = [f"{row.layer} ({row.mean:.2g})" for row in rows.itertuples() if row.mean >= least]
        if named:
            parts.append(f"where they are {words} in layer {listed(named)}")
    if not parts:
        return "No layer alone changes the answer."
    return (
        "Of visual tokens taken from one layer alone, the divergence is largest (nats per answer "
        f"token) {listed(parts)}."
    )


def _capability(whole: pd.DataFrame) -> str:
    """Sentence on the layer, or the layers, whose own choice keeps most of the answer."""
    rows = _rows(whole, "capability", "agreement").set_index("layer")
    best = rows[rows["mean"] == rows["mean"].max()]
    row = best.iloc[0]
    who = f"Layer {best.index[0]}'s own choice keeps most"
    if len(best) > 1:
        layers = "all layers" if len(best) == len(rows) else f"{len(best)} of {len(rows)} layers"
        who = f"The own choices of {layers} keep most alike"
    chance = _rows(whole, "random", "agreement").set_index("layer")["mean"]
    from_third = f"; a random share from layer 3 on keeps {percent(chance[3], 1)}"
    return (
        f"{who}, {percent(row['mean'], 1)} "
        f"({percent_interval(row['low'], row['high'])}) of the answer tokens"
        f"{from_third if 3 in chance.index else ''}."
    )


def _rows(whole: pd.DataFrame, curve: str, measure: str) -> pd.DataFrame:
    return whole[(whole["curve"] == curve) & (whole["measure"] == measure)]


def _lines(whole: pd.DataFrame) -> list[tuple[int, list[tuple[str, str, str]]]]:
    values = whole.set_index(["layer", "curve", "measure"])[["mean", "low", "high"]]
    lines = []
    for layer in whole["layer"].drop_duplicates():
        cells = []
        for curve in analysis.MEANINGS:
            kl, same = (values.loc[(layer, curve, name)] for name in ("kl", "agreement"))
            ends = percent_interval(same["low"], same["high"])
            cells.append((f"{kl['mean']:.3f}", percent(same["mean"], 1), ends))
        lines.append((int(layer), cells))
    return lines
