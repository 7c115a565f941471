"""Where does each method spend its budget? Visual tokens by layer, a row per method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .drawing.canvas import panels
from .drawing.heat_map import lined_heat_map
from .drawing.style import LIGHT, Theme, fit, layer_ticks, themed

if TYPE_CHECKING:
    from tokenlens.evaluation.comparing.comparison import Comparison


def compute(comparison: Comparison) -> pd.DataFrame:
    """Share of the unpruned model's visual tokens entering each layer, mean over samples.

    Columns: budget, method, layer (from 1), share.
    """
    tokens = {name: results.tokens_per_layer for name, results in comparison.arms.items()}
    whole = next(iter(tokens.values()))
    budgets = comparison.plan.budgets if comparison.plan else {}
    return pd.DataFrame(
        [
            (budget, method, layer, share)
            for budget, methods in budgets.items()
            for method, arm in methods.items()
            for layer, share in enumerate(tokens[arm] / whole, start=1)
        ],
        columns=["budget", "method", "layer", "share"],
    )


def plot(
    frame: pd.DataFrame, *, axes: Sequence[Axes] | None = None, theme: Theme = LIGHT
) -> Figure:
    """A heat map per budget, one below the other, all on one scale; on `axes`, one per budget."""
    budgets = {str(name): part for name, part in frame.groupby("budget", sort=False)}
    heights = [part["method"].nunique() for part in budgets.values()]
    with themed(theme):
        size = (theme.width, 0.6 + sum(0.5 + 0.17 * height for height in heights))
        figure, grid = panels(axes, size, (len(budgets), 1), height_ratios=heights)
        for (budget, part), panel in zip(budgets.items(), grid[:, 0], strict=True):
            wide = part.pivot(index="method", columns="layer", values="share")
            wide = wide.loc[part["method"].unique()]
            mesh = lined_heat_map(
                panel,
                100 * wide,
                limits=(0, 100),
                colours=theme.sequential,
                gap=0.4,
                ground=theme.paper,
            )
            names = [fit(str(method), theme.width / 4, 7.5) for method in wide.index]
            panel.set_yticks(np.arange(len(names)) + 0.5, names, va="center")
            panel.set_title(fit(budget, theme.width / 2, 8.5))
            panel.tick_params(length=0)
        layer_ticks(
            panel, list(wide.columns), (), theme, "x", most=theme.across(0.4, 16), offset=-0.5
        )
        figure.supxlabel("layer", fontsize=8)
        bar = figure.colorbar(mesh, ax=grid[:, 0], fraction=0.03, pad=0.02)
        bar.set_label("visual tokens,\n% of unpruned")
        bar.outline.set_visible(False)
        bar.set_ticks([0, 25, 50, 75, 100])
    return figure
