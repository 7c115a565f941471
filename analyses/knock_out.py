"""How deep does a model read its picture? Its score when visual tokens leave from a layer on.

    python -m tokenlens.analyses.knock_out --limit 100

From every layer on, all visual tokens but one random one leave (and, for comparison, all but a
random 20 %). A model whose score no longer suffers from some layer on has read its picture before
that layer: pruning methods that work from there on cannot be told apart by it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tokenlens.errors import TokenlensError
from tokenlens.evaluation.comparison import UNPRUNED, compare
from tokenlens.evaluation.results import MACRO
from tokenlens.schedule import ModelRef, Schedule, Scorer, Stage

from .style import LIGHT, PAGE, Theme, percent, shorten, themed

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.samples.sample import Sample

KEEPS: tuple[int | float, ...] = (1, 0.2)
"""What stays: one visual token, or a fifth of them."""


def knock_out(model: ModelRef, layer: int, keep: int | float, seed: int = 0) -> Schedule:
    """A schedule by which `keep` random visual tokens enter `layer` (from 2) and later ones."""
    stage = Stage(score_layer=layer - 1, when="after", keep=keep, disposal="drop")
    scorer = Scorer(query="random", seed=seed)
    return Schedule(schema=1, method="knock-out", model=model, scorer=scorer, stages=[stage])


def compute(
    vlm: VLM,
    samples: Sequence[Sample],
    out: Path,
    *,
    keeps: Sequence[int | float] = KEEPS,
    batch_size: int = 8,
    show_progress: bool = False,
) -> pd.DataFrame:
    """Scores with `keeps` random visual tokens from every layer on, and unpruned.

    Args:
        vlm: a model with its processor.
        samples: what it is asked.
        out: directory for the rows; an interrupted run continues there.
        keeps: counts (integers) or ratios of the visual tokens that stay.
        batch_size: samples per batch.
        show_progress: show a bar with an ETA on standard error.

    Returns:
        Columns `layer` (the first with fewer tokens), `keep`, `task`, `samples`, `score`,
        `score_low`, `score_high` (95 % bootstrap interval) and `unpruned`, the whole model's score.
    """
    model = ModelRef.of(vlm)
    arms = {
        f"{keep} from {layer}": knock_out(model, layer, keep)
        for keep in keeps
        for layer in range(2, model.layers + 1)
    }
    table = compare(
        vlm, samples, arms, out, batch_size=batch_size, show_progress=show_progress
    ).table()
    whole = table[table["arm"] == UNPRUNED].set_index("task")["score"]
    rows = table[(table["arm"] != UNPRUNED) & (table["task"] != MACRO)].copy()
    rows[["keep", "layer"]] = rows["arm"].str.split(" from ", expand=True)
    rows["layer"] = rows["layer"].astype(int)
    rows["unpruned"] = rows["task"].map(whole)
    columns = ["layer", "keep", "task", "samples", "score", "score_low", "score_high", "unpruned"]
    return rows[columns].reset_index(drop=True)


def plot(table: pd.DataFrame, *, theme: Theme = LIGHT) -> Figure:
    """Score by the layer from which tokens are gone: a panel per task, a line per `keep`."""
    tasks = table["task"].unique()
    with themed(theme):
        figure = Figure(figsize=(PAGE, 2.1), layout="constrained")
        for axes, task in zip(
            figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0], tasks, strict=True
        ):
            part = table[table["task"] == task]
            axes.axhline(part["unpruned"].iloc[0], color=theme.faint, linestyle=(0, (4, 3)))
            for place, (keep, line) in enumerate(part.groupby("keep", sort=False)):
                colour = theme.series[place]
                axes.plot(line["layer"], line["score"], color=colour, label=f"{keep} left")
                axes.fill_between(
                    line["layer"], line["score_low"], line["score_high"], color=colour, alpha=0.2
                )
            axes.set_title(shorten(task, 14))
            axes.set_ylim(0, 1.05)
            axes.spines[["top", "right"]].set_visible(False)
        figure.axes[0].yaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
        figure.axes[0].set_ylabel("score")
        figure.axes[-1].legend(frameon=False)
        figure.supxlabel("first layer without the tokens", fontsize=8)
    return figure


def markdown(table: pd.DataFrame) -> str:
    """Scores in per cent: a row per `keep` and layer, a column per task; unpruned first."""
    tasks = list(table["task"].unique())
    whole = table.drop_duplicates("task").set_index("task")["unpruned"]
    lines = [
        ["visual tokens left", "from layer", *tasks],
        ["---", *["---:"] * (1 + len(tasks))],
        ["all", "", *(f"{100 * whole[task]:.1f}" for task in tasks)],
    ]
    for (keep, layer), part in table.groupby(["keep", "layer"], sort=False):
        scores = part.set_index("task")["score"]
        lines.append([str(keep), str(layer), *(f"{100 * scores[task]:.1f}" for task in tasks)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Run it on a model and print the table."""
    from tokenlens.models.loading import load
    from tokenlens.samples.dataset import load_samples
    from tokenlens.workspace import ROOT, slug

    parser = argparse.ArgumentParser(
        prog="python -m tokenlens.analyses.knock_out",
        description="The score when visual tokens leave from a layer on.",
    )
    parser.add_argument("--model", default="tiny-qwen2-vl", help="name, hub id or directory")
    parser.add_argument("--data", default="scenes", help="name, manifest or directory")
    parser.add_argument("--limit", type=int, default=100, help="held-out samples")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--out", type=Path, help="directory for the rows")
    options = parser.parse_args()
    try:
        table = compute(
            load(options.model),
            load_samples(options.data, "held-out", options.limit),
            options.out or ROOT / slug(options.model) / "knock-out",
            batch_size=options.batch_size,
            show_progress=True,
        )
    except TokenlensError as error:
        parser.exit(2, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "interrupted; the same command continues\n")
    sys.stdout.write(markdown(table) + "\n")


if __name__ == "__main__":
    main()
