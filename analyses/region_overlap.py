"""Which layers attend to the region of the answer? Cover of it by their most important tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokenlens.measures.intervals import bootstrap_interval
from tokenlens.measures.overlap import region_scores
from tokenlens.wording.figures import percent

from .drawing.canvas import root_figure
from .drawing.style import LIGHT, Theme, fit, layer_ticks, themed

if TYPE_CHECKING:
    from tokenlens.probing.profile import Profile

ALL = "all samples"
TOP = 0.2
MEANINGS = {
    "recall": "region tokens among the top {top}",
    "iou": "IoU of the region and the top {top}",
    "average_precision": "average precision of the region",
    "mass": "attention mass in the region",
    "pointing": "most important token in the region",
}
"""Label of the y axis, per metric of `tokenlens.measures.overlap`."""


def compute(profile: Profile, *, metric: str = "recall", top: float = TOP) -> pd.DataFrame:
    """Mean score per layer with its 95 % bootstrap interval, over all samples and per task.

    Columns: task (`all samples` first), layer (from 1), mean, low, high, samples. Samples without a
    region are left out; the frame is empty where none has one.
    """
    scores: dict[str, list[np.ndarray]] = {ALL: []}
    for row in profile.rows():
        if row.region.any():
            score = region_scores(row.importance, row.region, metric, top)
            scores[ALL].append(score)
            scores.setdefault(row.task, []).append(score)
    if len(scores) == 2:
        del scores[ALL]
    parts = []
    for task, values in scores.items():
        if values:
            mean, low, high = bootstrap_interval(np.stack(values))
            layers = np.arange(1, len(mean) + 1)
            columns = {"layer": layers, "mean": mean, "low": low, "high": high}
            parts.append(pd.DataFrame({"task": task, **columns, "samples": len(values)}))
    empty = pd.DataFrame(columns=["task", "layer", "mean", "low", "high", "samples"])
    return pd.concat(parts, ignore_index=True) if parts else empty


def plot(
    frame: pd.DataFrame,
    *,
    metric: str = "recall",
    top: float = TOP,
    chosen: Sequence[int] = (),
    axes: Sequence[Axes] | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """A large panel over all samples, a small one per task; intervals shaded, chosen layers marked.

    Titles give the number of samples in brackets. On `axes`, one per task, where they are given.
    """
    tasks = list(frame["task"].unique())
    columns = theme.across(1.35, most=min(5, max(1, len(tasks) - 1)))
    rows = -(-(len(tasks) - 1) // columns)
    room = (theme.width - 0.45) / columns - 0.12
    with themed(theme):
        main, *smalls = _panels(len(tasks) - 1, rows, columns, theme) if axes is None else axes
        _draw(main, frame, tasks[0], metric, top, chosen, theme, theme.width - 2.6)
        main.set_ylabel(MEANINGS[metric].format(top=percent(top)))
        main.set_xlabel("layer")
        for index, (task, small) in enumerate(zip(tasks[1:], smalls, strict=False)):
            _draw(small, frame, task, metric, top, chosen, theme, room, small=True)
            small.tick_params(labelleft=index % columns == 0)
        main.set_ylim(0, 1)
        if main.get_legend_handles_labels()[1]:
            main.legend(loc="lower right", bbox_to_anchor=(1, 1), borderpad=0.2, ncols=2)
    return root_figure(main)


def _panels(count: int, rows: int, columns: int, theme: Theme) -> list[Axes]:
    """The large panel of a new figure, and `count` small ones below it."""
    figure = Figure(figsize=(theme.width, 2.7 + 1.45 * rows), layout="constrained")
    grid = figure.add_gridspec(1 + rows, columns, height_ratios=[2.1, *[1] * rows])
    main = figure.add_subplot(grid[0, :])
    places = [grid[1 + index // columns, index % columns] for index in range(count)]
    return [main, *(figure.add_subplot(place, sharey=main) for place in places)]


def _draw(
    axes: Axes,
    frame: pd.DataFrame,
    task: str,
    metric: str,
    top: float,
    chosen: Sequence[int],
    theme: Theme,
    room: float,
    *,
    small: bool = False,
) -> None:
    part = frame[frame["task"] == task]
    colour = theme.series[0]
    for layer in chosen:
        axes.axvline(layer, color=theme.accent, linewidth=0.9, alpha=0.7, zorder=1)
    if metric == "recall":
        dashes = (0, (4, 3))
        axes.axhline(
            top, color=theme.faint, linewidth=0.9, linestyle=dashes, label="chance", zorder=1
        )
    axes.fill_between(
        part["layer"], part["low"], part["high"], color=colour, alpha=0.22, linewidth=0
    )
    axes.plot(
        part["layer"],
        part["mean"],
        color=colour,
        linewidth=1.2 if small else 1.8,
        marker=None if small else "o",
        markersize=3.5,
        clip_on=False,
        zorder=3,
    )
    marked = part[part["layer"].isin(chosen)]
    if len(marked):
        axes.plot(
            marked["layer"],
            marked["mean"],
            "o",
            label="chosen layer",
            color=theme.accent,
            markersize=3.5 if small else 6.5,
            markeredgecolor=theme.paper,
            markeredgewidth=0.8,
            zorder=4,
            clip_on=False,
        )
    _label(axes, part, task, chosen, theme, room, small=small)


def _label(
    axes: Axes,
    part: pd.DataFrame,
    task: str,
    chosen: Sequence[int],
    theme: Theme,
    room: float,
    *,
    small: bool,
) -> None:
    samples = int(part["samples"].iloc[0])
    count, size = f" ({samples})", 7.0 if small else 8.5
    axes.set_title(fit(task, room - len(count) * size / 110, size) + count, fontsize=size, pad=4)
    axes.grid(axis="y")
    axes.spines[["top", "right"]].set_visible(False)
    layers = part["layer"].tolist()
    layer_ticks(
        axes, layers, chosen, theme, "x", most=int(room / 0.23) if small else theme.across(0.4, 16)
    )
    if small:
        axes.tick_params(labelsize=6.5)
