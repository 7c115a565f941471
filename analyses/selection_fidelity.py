"""Does a method end with the tokens that the unpruned model would choose?

For each sample: the share of the unpruned model's most important tokens, at the layer that reads
what is left, that lie among the tokens a method's last stage selected (SwiftVLM, arXiv 2602.03134,
Fig. 8, there at layer 15 of LLaVA-1.5-7B and for 4,000 samples).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tokenlens.errors import ResultsError
from tokenlens.measures.arrays import top_count, top_ranks
from tokenlens.measures.intervals import bootstrap_interval
from tokenlens.wording.figures import percent

from .drawing.canvas import panels
from .drawing.style import LIGHT, Theme, fit, themed

if TYPE_CHECKING:
    from tokenlens.evaluation.comparing.comparison import Comparison
    from tokenlens.probing.profile import Profile

SHARES = (0.05, 0.1)
"""The paper's: the top 5 % and 10 % of the unpruned model's tokens."""
_READ = ("id", "image", "question", "task", "positions", "selected")
_COLUMNS = ["budget", "method", "sample", "task", "top", "overlap", "kept"]


def reading_layer(comparison: Comparison) -> int | None:
    """The deepest layer, from 1, that the first method with a stage in the decoder scores at.

    All methods are held against the unpruned model at this one layer. None where there is none.
    """
    for results in comparison.arms.values():
        schedule = results.identity["schedule"] or {"stages": []}
        if layers := [stage["score_layer"] for stage in schedule["stages"] if stage["score_layer"]]:
            return int(max(layers))
    return None


def compute(
    profile: Profile,
    comparison: Comparison,
    *,
    layer: int | None = None,
    shares: Sequence[float] = SHARES,
) -> pd.DataFrame:
    """Overlap of each method's last selection with the unpruned model's top tokens.

    Args:
        profile: importance in the unpruned model; samples that it shares with the comparison count:
            those of the same id, picture and question.
        comparison: results of methods on these samples.
        layer: layer of the unpruned model, from 1; default: `reading_layer`.
        shares: top shares of the unpruned model's tokens.

    Returns:
        Columns budget, method, sample (id), task, top (one of `shares`), overlap (share of these
        top tokens that the last stage selected, 0 to 1), kept (share of all visual tokens that it
        selected: what a choice by chance would reach). Empty where no sample is shared, or no
        method has a stage.

    Raises:
        ResultsError: the profile has no such layer.
    """
    layer = reading_layer(comparison) if layer is None else layer
    if layer is None:
        return pd.DataFrame(columns=_COLUMNS)
    if not 1 <= layer <= profile.layers:
        raise ResultsError(f"layer: got {layer}, expected 1 to {profile.layers}, the profile's")
    ranks = {
        (row.id, row.image, row.question): top_ranks(
            row.importance[layer - 1 : layer].astype(np.float64)
        )[0]
        for row in profile.rows()
    }
    rows = [
        (budget, method, *found)
        for budget, methods in comparison.methods.items()
        for method, arm in methods.items()
        for found in _overlaps(comparison, arm, ranks, shares)
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _overlaps(
    comparison: Comparison,
    arm: str,
    ranks: Mapping[tuple[str, str, str], np.ndarray],
    shares: Sequence[float],
) -> Iterator[tuple[Any, ...]]:
    """Sample, task, top share, overlap and share kept, of every shared sample of an arm.

    A sample whose picture the arm shows smaller has other tokens, and is left out.
    """
    for part in comparison.arms[arm].parts(_READ):
        for row in part.itertuples():
            order = ranks.get((row.id, row.image, row.question))
            stages = json.loads(row.selected)
            if order is None or not stages or len(order) != len(row.positions):
                continue
            kept = np.isin(row.positions, stages[-1])
            for share in shares:
                wanted = order < top_count(share, len(order))
                yield row.id, row.task, share, float(kept[wanted].mean()), float(kept.mean())


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over samples with their 95 % bootstrap intervals.

    Columns: budget, method, top, mean, low, high, kept (mean share of tokens kept), samples.
    """
    rows = []
    for keys, part in frame.groupby(["budget", "method", "top"], sort=False):
        mean, low, high = map(float, bootstrap_interval(part["overlap"].to_numpy()))
        rows.append((*keys, mean, low, high, float(part["kept"].mean()), len(part)))
    return pd.DataFrame(
        rows, columns=["budget", "method", "top", "mean", "low", "high", "kept", "samples"]
    )


def plot(
    frame: pd.DataFrame,
    *,
    layer: int | None = None,
    axes: Sequence[Axes] | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Violins over samples, a row per method: panels by top share, and by budget below each other.

    Dots are means with their intervals, and numbers beside them; ticks mark what a choice of as
    many tokens by chance would reach. `layer` is named below; panels may be given as `axes`.
    """
    budgets, shares = list(frame["budget"].unique()), list(frame["top"].unique())
    heights = [frame.loc[frame["budget"] == budget, "method"].nunique() for budget in budgets]
    means = summary(frame)
    with themed(theme):
        size = (theme.width, 0.75 + sum(0.32 + 0.27 * height for height in heights))
        shape = (len(budgets), len(shares))
        figure, grid = panels(axes, size, shape, height_ratios=[h + 0.4 for h in heights])
        for budget, line in zip(budgets, grid.reshape(shape), strict=True):
            for share, panel in zip(shares, line, strict=True):
                drawn = (frame["budget"] == budget) & (frame["top"] == share)
                found = means[(means["budget"] == budget) & (means["top"] == share)]
                _draw(panel, frame[drawn], found, theme)
                title = f"top {percent(share)}" + (f" at {budget}" if len(budgets) > 1 else "")
                panel.set_title(fit(title, theme.width / 2 - 0.6, 8.5))
                if panel is not line[0]:
                    panel.tick_params(labelleft=False, left=False)
        words = "of the unpruned model's top tokens, % kept"
        at = f"layer {layer}, " if layer else ""
        figure.supxlabel(f"{words}\n({at}{frame['sample'].nunique()} samples)", fontsize=8)
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def _draw(panel: Axes, frame: pd.DataFrame, means: pd.DataFrame, theme: Theme) -> None:
    """One panel: methods from top to bottom."""
    places = {method: place for place, method in enumerate(means["method"])}
    for method, part in frame.groupby("method", sort=False):
        values = part["overlap"].to_numpy()
        if np.ptp(values) > 0:
            drawn: dict[str, Any] = panel.violinplot(
                values, [places[method]], orientation="horizontal", widths=0.85, showextrema=False
            )
            drawn["bodies"][0].set(facecolor=theme.series[0], alpha=0.3, edgecolor="none")
    for row in means.itertuples():
        place, first = places[row.method], row.Index == means.index[0]
        panel.errorbar(
            row.mean,
            place,
            xerr=[[row.mean - row.low], [row.high - row.mean]],
            fmt="o",
            color=theme.series[0],
            markersize=3.5,
            elinewidth=1.1,
            clip_on=False,
            label="mean (95 % interval)" if first else None,
        )
        panel.plot(
            [row.kept],
            [place],
            linestyle="none",
            marker="|",
            markersize=9,
            markeredgewidth=1.3,
            color=theme.accent,
            label="chance" if first else None,
            clip_on=False,
        )
        panel.annotate(
            percent(row.mean),
            (1, place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=6.5,
            annotation_clip=False,
        )
    names = [fit(method, theme.width / 4, 7.5) for method in places]
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlim(0, 1)
    panel.set_xticks([0, 0.5, 1])
    panel.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f}"))
    panel.grid(axis="x")
    panel.spines[["top", "right"]].set_visible(False)
