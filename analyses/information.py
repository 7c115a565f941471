"""How each layer uses the picture, measured without labels: one figure per curve.

    tokenlens information --limit 100

`compute` measures (`tokenlens.evaluation.information`), `plot` draws one curve per task and over
all samples, with 95 % bootstrap intervals: divergence from the unpruned model's next-token
distributions, and the share of answer tokens that are still the most likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from tokenlens.evaluation.information.curves import MEASURES, horizon_layer
from tokenlens.evaluation.information.measure import information
from tokenlens.wording.figures import percent

from .drawing.style import LIGHT, Theme, fit, themed
from .studies.paired_difference import markdown_table

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.samples.sample import Sample

MEANINGS = MappingProxyType(
    {
        "horizon": "all visual tokens gone from the layer on",
        "contribution": "visual tokens not updated by the layer alone",
        "aside": "no visual tokens in the layer alone",
        "capability": "the layer's own choice from layer 3 on",
        "random": "a random share from the layer on",
    }
)
AXES = {"kl": "divergence (nats per answer token)", "agreement": "answer tokens that stay"}


def compute(
    vlm: VLM,
    samples: Sequence[Sample],
    out: Path | None = None,
    *,
    batch_size: int = 8,
    show_progress: bool = False,
) -> pd.DataFrame:
    """The curves of a model, as `Information.table` gives them."""
    found = information(vlm, samples, out, batch_size=batch_size, show_progress=show_progress)
    return found.table()


def plot(table: pd.DataFrame, curve: str, *, theme: Theme = LIGHT) -> Figure:
    """One curve by layer: a row of panels per measure, a panel per task and over all."""
    chosen = table[table["curve"] == curve]
    tasks = list(chosen["task"].unique())
    with themed(theme):
        figure = Figure(figsize=(max(theme.width, 1.4 * len(tasks)), 3.8), layout="constrained")
        grid = figure.subplots(len(MEASURES), len(tasks), sharex=True, sharey="row", squeeze=False)
        for row, measure in zip(grid, MEASURES, strict=True):
            for axes, task in zip(row, tasks, strict=True):
                line = chosen[(chosen["task"] == task) & (chosen["measure"] == measure)]
                axes.plot(line["layer"], line["mean"], color=theme.series[0])
                axes.fill_between(
                    line["layer"], line["low"], line["high"], color=theme.series[0], alpha=0.2
                )
                axes.set_ylim(bottom=0)
                axes.spines[["top", "right"]].set_visible(False)
            row[0].set_ylabel(AXES[measure], fontsize=7)
        for axes, task in zip(grid[0], tasks, strict=True):
            axes.set_title(fit(task, figure.get_figwidth() / len(tasks) - 0.3, 8.5))
        figure.supxlabel("layer", fontsize=8)
        figure.suptitle(MEANINGS[curve], fontsize=9)
    return figure


def markdown(table: pd.DataFrame) -> str:
    """Over all samples: divergence and agreement of every curve, a row per layer."""
    whole = table[table["task"] == "all"]
    heads = ["layer", *(f"{curve} {name}" for curve in MEANINGS for name in ("KL", "agreement"))]
    lines = []
    for layer, part in whole.groupby("layer"):
        means = part.set_index(["curve", "measure"])["mean"]
        cells = [
            cell
            for curve in MEANINGS
            for cell in (f"{means[curve, 'kl']:.3f}", f"{100 * means[curve, 'agreement']:.1f} %")
        ]
        lines.append([str(layer), *cells])
    return markdown_table(heads, lines)


def paths_markdown(table: pd.DataFrame) -> str:
    """Answers that stay on every path of `PathLosses.table`, in per cent, by share of the MACs."""
    shares = sorted(table["macs"].unique())
    heads = ["answers that stay, by MACs", *(percent(share) for share in shares)]
    lines = []
    for path, part in table.groupby("path", sort=False):
        same = part.set_index("macs")["same"]
        cells = [percent(same[share]) if share in same else "" for share in shares]
        lines.append([str(path), *cells])
    return markdown_table(heads, lines)


def horizons(table: pd.DataFrame, least: float = 0.99) -> dict[str, int | None]:
    """Per task, the layer from which on agreement without visual tokens is `least` or more.

    The low end of the interval is compared: see `information.curves.horizon_layer`.
    """
    chosen = table[(table["curve"] == "horizon") & (table["measure"] == "agreement")]
    return {
        str(task): horizon_layer(part["low"].tolist(), least)
        for task, part in chosen.groupby("task", sort=False)
    }
