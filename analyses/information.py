"""How each layer uses the picture, measured without labels: one figure per curve.

    tokenlens information --limit 100

`compute` takes the curves of an information profile (`tokenlens.information`), `plot` draws one
curve per task and over all samples, `overview` all curves over all samples. With 95 % bootstrap
intervals, they show the divergence from the unpruned model's next-token distributions (KL, in nats
per answer token), and the share of answer tokens that are still the most likely.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tokenlens.evaluation.information.curves import MEASURES, Information, horizon_layer
from tokenlens.wording.figures import percent

from .drawing.style import LIGHT, Theme, fit, layer_ticks, legend_columns, themed
from .studies.paired_difference import markdown_table

MEANINGS = MappingProxyType(
    {
        "horizon": "all visual tokens gone from the layer on",
        "contribution": "visual tokens not updated by the layer alone",
        "aside": "no visual tokens in the layer alone",
        "capability": "the layer's own choice from layer 3 on",
        "random": "a random share from the layer on",
    }
)
GROUPS = MappingProxyType(
    {
        "from a layer on": ("horizon", "random"),
        "in one layer": ("contribution", "aside"),
        "its own choice": ("capability",),
    }
)
"""The curves of each panel of `overview`, by its title."""
AXES = {"kl": "KL (nats per token)", "agreement": "tokens that stay"}


def compute(found: Information) -> pd.DataFrame:
    """The curves of an information profile, as `Information.table` gives them."""
    return found.table()


def plot(table: pd.DataFrame, curve: str, *, theme: Theme = LIGHT) -> Figure:
    """One curve by layer: a panel per task and over all, divergence above agreement."""
    chosen = table[table["curve"] == curve]
    tasks = {str(task): part for task, part in chosen.groupby("task", sort=False)}
    top = 1.05 * chosen.loc[chosen["measure"] == "kl", "high"].max() or 1.0
    figure, _ = _grid(tasks, {curve: theme.series[0]}, theme, most=5, top=top)
    with themed(theme):
        figure.suptitle(MEANINGS[curve], fontsize=9)
    return figure


def overview(table: pd.DataFrame, *, theme: Theme = LIGHT) -> Figure:
    """Every curve over all samples, those that take away as much in one panel."""
    whole = table[table["task"] == "all"]
    groups = {
        title: whole[whole["curve"].isin(curves)].assign(task=title)
        for title, curves in GROUPS.items()
    }
    colours = dict(zip(MEANINGS, theme.series, strict=False))
    figure, drawn = _grid(groups, colours, theme, most=len(GROUPS))
    lines = {line.get_label(): line for axes in drawn for line in axes.lines}
    names = {MEANINGS[str(curve)]: line for curve, line in lines.items()}
    with themed(theme):
        figure.legend(
            list(names.values()),
            list(names),
            loc="outside upper center",
            ncols=min(len(names), legend_columns(names, theme)),
        )
    return figure


def _grid(
    parts: Mapping[str, pd.DataFrame],
    colours: Mapping[str, str],
    theme: Theme,
    most: int,
    top: float | None = None,
) -> tuple[Figure, list[Axes]]:
    """A panel per part and measure, the measures of a part one above the other, lines by curve.

    There are at most so many panels beside each other; `top` is the end of the axes of divergence.
    """
    columns = theme.across(1.35, most=min(most, len(parts)))
    blocks = -(-len(parts) // columns)
    room = (theme.width - 0.25) / columns - 0.45
    with themed(theme):
        size = (theme.width, 0.7 + 2.5 * blocks)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(MEASURES) * blocks, columns, squeeze=False)
        for place in range(blocks * columns):
            block, column = divmod(place, columns)
            stack = grid[len(MEASURES) * block : len(MEASURES) * (block + 1), column]
            if place >= len(parts):
                for axes in stack:
                    axes.set_visible(False)
                continue
            title, part = list(parts.items())[place]
            layers = part["layer"].drop_duplicates().tolist()
            stack[0].set_title(fit(title, room, 8.5))
            for axes, measure in zip(stack, MEASURES, strict=True):
                _draw(axes, part[part["measure"] == measure], colours)
                axes.set_ylim(0, 1.02 if measure == "agreement" else top)
                layer_ticks(axes, layers, (), theme, "x", most=max(1, int(room / 0.23)))
                if measure == "agreement":
                    axes.yaxis.set_major_formatter(FuncFormatter(lambda one, _: percent(one)))
                if column == 0:
                    axes.set_ylabel(AXES[measure], fontsize=7)
            stack[0].tick_params(labelbottom=False)
        figure.supxlabel("layer", fontsize=8)
    return figure, [axes for axes in grid.flat if axes.get_visible()]


def _draw(axes: Axes, part: pd.DataFrame, colours: Mapping[str, str]) -> None:
    """The mean of each curve with its interval."""
    for curve, line in part.groupby("curve", sort=False):
        colour = colours[str(curve)]
        axes.plot(line["layer"], line["mean"], color=colour, linewidth=1.2, label=curve)
        axes.fill_between(
            line["layer"], line["low"], line["high"], color=colour, alpha=0.2, linewidth=0
        )
    axes.grid(axis="y")
    axes.spines[["top", "right"]].set_visible(False)


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
