"""How much of the saving arrives? Efficiency of each arm, with quartiles, and its ceiling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokenlens.benching.records import Bench
from tokenlens.storage.files import write_bytes

from .drawing.canvas import single
from .drawing.finished import render
from .drawing.style import LIGHT, PAGE, Theme, shorten, themed

_KINDS = {"efficiency": ("pruned", "o"), "engine-free efficiency": ("engine-free", "D")}


def compute(bench: Bench) -> pd.DataFrame:
    """A line for each measured arm: label, kind, median, low, high."""
    return pd.DataFrame(
        [
            {"label": _label(row), "kind": kind, **row["ratios"][name]}
            for row in bench.rows
            if not row["estimate"]
            for name, (kind, _) in _KINDS.items()
            if name in row["ratios"]
        ],
        columns=["label", "kind", "median", "low", "high"],
    )


def plot(frame: pd.DataFrame, *, theme: Theme = LIGHT, ax: Axes | None = None) -> Figure:
    """Draw the arms one below the other; 1 is where time falls as MACs do."""
    labels = list(dict.fromkeys(frame["label"]))
    with themed(theme):
        figure, axes = single(ax, (PAGE, 1.1 + 0.28 * len(labels)))
        for place, (kind, marker) in enumerate(_KINDS.values()):
            rows = frame[frame["kind"] == kind]
            heights = [labels.index(label) + 0.3 * place - 0.15 for label in rows["label"]]
            axes.hlines(heights, rows["low"], rows["high"], color=theme.series[place])
            axes.plot(
                rows["median"], heights, marker, color=theme.series[place], ms=4.5, label=kind
            )
        axes.axvline(1, color=theme.faint, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.set_yticks(range(len(labels)), [shorten(label, 48) for label in labels])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlabel("efficiency: saving of time beside the saving of MACs")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x")
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def draw(bench: Bench, path: Path) -> Iterator[Path]:
    """Write the figure beside the bench's file, where anything was measured."""
    frame = compute(bench)
    if not frame.empty:
        drawn = path.with_suffix(".svg")
        write_bytes(drawn, render(plot(frame), ".svg"))
        yield drawn


def _label(row: dict[str, object]) -> str:
    return f"{row['method']} {row['budget']}, {row['visual']} tokens, batch {row['batch']}"
