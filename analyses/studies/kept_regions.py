"""Do the kept tokens cover the region of the answer? The region's share in each last stage.

    python -m tokenlens.analyses.studies.kept_regions tokenlens-out/tiny-qwen2-vl/compare-…

From the answers of `tokenlens run --compare`, it computes the share of the region's tokens that the
last stage selects, the share of all tokens that it selects (a random choice would cover this share
of the region), and the share of regions with at least one selected token. Printed as Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.measures.intervals import bootstrap_interval
from tokenlens.probing.stored_rows import stored_region
from tokenlens.wording.figures import interval_cell, percent

from ..drawing.canvas import single
from ..drawing.style import LIGHT, Theme, themed
from . import command
from .paired_difference import markdown_table


def compute(comparison: Comparison, tasks: Sequence[str] = ()) -> pd.DataFrame:
    """One row per arm that has stages, over the samples with a region, of `tasks` if any are named.

    Columns: `arm`, `samples`, `region` (mean share of a region's tokens that the last stage
    selects) with the ends of its 95 % bootstrap interval (`region_low`, `region_high`), `touched`
    (share of regions with a token that it selects), and `all` (mean share of all visual tokens
    that it selects).
    """
    rows = []
    for arm, results in comparison.arms.items():
        rows_of = results.rows.to_dict("records")
        asked = (row for row in rows_of if not tasks or row["task"] in tasks)
        held = [shares for row in asked if (shares := _shares(row))]
        if held:
            regions, everything = np.array(held).T
            mean, low, high = bootstrap_interval(regions)
            touched = (regions > 0).mean()
            rows.append((arm, len(held), mean, low, high, touched, everything.mean()))
    columns = ["arm", "samples", "region", "region_low", "region_high", "touched", "all"]
    return pd.DataFrame(rows, columns=columns)


def _shares(row: dict[str, Any]) -> tuple[float, float] | None:
    """Shares of the region's and of all tokens that the last stage selects; None without either."""
    stages = json.loads(row["selected"])
    region = stored_region(row)
    if not stages or not region.any():
        return None
    selected = np.isin(row["positions"], stages[-1])
    return float(selected[region].mean()), float(selected.mean())


def plot(table: pd.DataFrame, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Figure:
    """Plot per arm the region's share in its last stage; a tick marks a random choice's share."""
    places = range(len(table))
    with themed(theme):
        figure, axes = single(ax, (theme.width, 0.6 + 0.2 * len(table)))
        axes.errorbar(
            table["region"],
            places,
            xerr=[table["region"] - table["region_low"], table["region_high"] - table["region"]],
            fmt="o",
            color=theme.series[0],
            markersize=4,
            capsize=2,
        )
        axes.plot(table["all"], places, "|", color=theme.faint, markersize=9)
        axes.set_yticks(list(places), list(table["arm"]))
        axes.invert_yaxis()
        axes.grid(axis="x")
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
        axes.set_xlabel("the region's tokens in the last choice")
    return figure


def markdown(table: pd.DataFrame) -> str:
    """A row per arm, shares in per cent."""
    rows = [
        [
            row.arm,
            interval_cell(row.region, row.region_low, row.region_high),
            f"{100 * row.touched:.1f}",
            f"{100 * row.all:.1f}",
        ]
        for row in table.itertuples()
    ]
    heads = ["method and budget", "of the region's tokens", "regions touched", "of all tokens"]
    return markdown_table(heads, rows)


def main() -> None:
    """Print the table of a comparison directory."""
    parser = argparse.ArgumentParser(
        prog="python -m tokenlens.analyses.studies.kept_regions",
        description="What each method's last choice holds of the regions asked for.",
    )
    parser.add_argument("results", type=Path, help="directory that tokenlens run --compare wrote")
    parser.add_argument("--task", action="append", default=[], help="only this one; repeatable")
    command.run(
        parser, lambda options: markdown(compute(Comparison.load(options.results), options.task))
    )


if __name__ == "__main__":
    main()
