"""Up to which layer does a model read its picture? Scores without visual tokens from a layer on.

    tokenlens knock-out --limit 100

Three questions, one arm per layer each:

- `none`: all visual tokens are removed from that layer on. Where the score does not fall, the model
has read its picture before that layer, and every pruning method is lossless from there on.
- `random`: a random fifth is kept from that layer on.
- `own`: the fifth that this layer of the unpruned model ranks highest is kept from layer 3 on: the
selection-capability profile of SwiftVLM (arXiv 2602.03134, Fig. 4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tokenlens.evaluation.capability import FIRST_PRUNED, SHARE, left_from, own_left
from tokenlens.evaluation.comparing.compare import compare
from tokenlens.evaluation.comparing.comparison import UNPRUNED
from tokenlens.evaluation.metrics.agreement import scores_or_agreement
from tokenlens.evaluation.running.results import MACRO
from tokenlens.samples.dataset import with_pictures
from tokenlens.schedule import ModelRef, Schedule, Scorer
from tokenlens.wording.figures import percent
from tokenlens.workers import Workers

from .drawing.canvas import hide_unused, panels
from .drawing.style import LIGHT, Theme, fit, legend_columns, themed
from .studies.paired_difference import markdown_table

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.samples.sample import Sample


def none_left(model: ModelRef, layer: int) -> Schedule:
    """Schedule by which no visual token enters `layer` (from 2) and later ones."""
    return left_from(model, layer, "none", Scorer(query="random", seed=0))


def random_left(model: ModelRef, layer: int, share: float = SHARE, seed: int = 0) -> Schedule:
    """Schedule by which a random share of tokens enters `layer` (from 2) and later ones."""
    return left_from(model, layer, share, Scorer(query="random", seed=seed))


ARMS: Mapping[str, Callable[[ModelRef, int], Schedule]] = MappingProxyType(
    {"none": none_left, "random": random_left, "own": own_left}
)
"""The schedules of each arm, by its name in the table."""
MEANINGS = {
    "none": "none left from the layer on",
    "random": f"a random {percent(SHARE)} from the layer on",
    "own": f"the layer's own {percent(SHARE)} from layer {FIRST_PRUNED} on",
}


def arms(
    model: ModelRef, layers: Sequence[int] | None = None, seed: int = 0
) -> dict[str, Schedule]:
    """The schedules of `compute` by the name of their arm; `seed` is of the random shares."""
    seeded = partial(random_left, seed=seed)
    makes: dict[str, Callable[[ModelRef, int], Schedule]] = {**ARMS, "random": seeded}
    return {
        f"{left} {layer}": make(model, layer)
        for left, make in makes.items()
        for layer in layers or range(2, model.layers + 1)
    }


def compute(
    vlm: VLM,
    samples: Sequence[Sample],
    out: Path,
    *,
    layers: Sequence[int] | None = None,
    answers: Path | None = None,
    seed: int = 0,
    batch_size: int = 8,
    show_progress: bool = False,
    workers: Workers | None = None,
) -> pd.DataFrame:
    """Scores by layer for each of `ARMS`, and unpruned.

    Args:
        vlm: a model with its processor.
        samples: pictures and questions; those of text alone are left out, with a warning.
        out: directory for the rows; an interrupted run continues there.
        layers: layers to measure, counted from 1; None takes all from 2 on.
        answers: directory in which answers are kept for later runs of the model on other samples;
            None keeps them in `out`, until it has finished.
        seed: of the random shares.
        batch_size: samples per batch.
        show_progress: show a bar with an ETA on standard error.
        workers: processes that answer in place of this one, with the same scores.

    Returns:
        Columns `layer`, `left` (a key of `ARMS`), `task` (each, then `all`), `samples`, `score`,
        `score_low`, `score_high` (95 % bootstrap interval) and `unpruned`, the whole model's score.
        Where no sample of a task has ground truth, scores are agreements with the unpruned model's
        answers (`evaluation.metrics.agreement`), and `unpruned` is 1.
    """
    comparison = compare(
        vlm,
        with_pictures(samples, "the knock-out"),
        arms(ModelRef.of(vlm), layers, seed),
        out,
        answers=answers,
        batch_size=batch_size,
        show_progress=show_progress,
        timed=False,
        workers=workers,
    )
    table = scores_or_agreement(comparison.table())
    whole = table[table["arm"] == UNPRUNED].set_index("task")["score"]
    rows = table[(table["arm"] != UNPRUNED) & (table["task"] != MACRO)].copy()
    rows[["left", "layer"]] = rows["arm"].str.split(" ", expand=True)
    rows["layer"] = rows["layer"].astype(int)
    rows["unpruned"] = rows["task"].map(whole)
    columns = ["layer", "left", "task", "samples", "score", "score_low", "score_high", "unpruned"]
    return rows[columns].reset_index(drop=True)


def plot(
    table: pd.DataFrame, *, axes: Sequence[Axes] | None = None, theme: Theme = LIGHT
) -> Figure:
    """Score by layer: a panel per task, a line per arm; the unpruned score is dashed.

    On `axes`, one per task, where they are given.
    """
    tasks = list(table["task"].unique())
    columns = theme.across(1.35, most=min(5, len(tasks)))
    rows = -(-len(tasks) // columns)
    with themed(theme):
        size, shape = (theme.width, 0.6 + 1.7 * rows), (rows, columns)
        figure, grid = panels(axes, size, shape, count=len(tasks), sharex=True, sharey=True)
        hide_unused(grid, len(tasks))
        for panel, task in zip(grid.flat, tasks, strict=False):
            part = table[table["task"] == task]
            panel.axhline(part["unpruned"].iloc[0], color=theme.faint, linestyle=(0, (4, 3)))
            for colour, (left, line) in zip(
                theme.series, part.groupby("left", sort=False), strict=False
            ):
                panel.plot(line["layer"], line["score"], color=colour, label=MEANINGS[left])
                panel.fill_between(
                    line["layer"], line["score_low"], line["score_high"], color=colour, alpha=0.2
                )
            panel.set_title(fit(task, (theme.width - 0.5) / columns - 0.1, 8.5))
            panel.set_ylim(0, 1.05)
            panel.spines[["top", "right"]].set_visible(False)
        grid[0, 0].yaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
        figure.supylabel("score", fontsize=8)
        figure.supxlabel("layer", fontsize=8)
        figure.legend(
            *grid[0, 0].get_legend_handles_labels(),
            loc="outside upper center",
            ncols=min(len(MEANINGS), legend_columns(MEANINGS.values(), theme)),
        )
    return figure


def markdown(table: pd.DataFrame) -> str:
    """Scores in per cent: a row per arm and layer, a column per task; unpruned first."""
    tasks = list(table["task"].unique())
    counts = table.drop_duplicates("task").set_index("task")[["samples", "unpruned"]]
    heads = ["visual tokens left", "layer", *(f"{t} ({n})" for t, n in counts["samples"].items())]
    lines = [["all", "", *(f"{100 * counts['unpruned'][task]:.1f}" for task in tasks)]]
    for (left, layer), part in table.groupby(["left", "layer"], sort=False):
        scores = part.set_index("task")["score"]
        lines.append([left, str(layer), *(f"{100 * scores[task]:.1f}" for task in tasks)])
    return markdown_table(heads, lines)
