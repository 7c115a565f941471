"""Does a merged token change like the tokens of its group?

    python -m tokenlens.analyses.studies.merged_offset --model tiny-qwen2-vl --budget 33%

SwiftVLM (arXiv 2602.03134, §3.3 and Fig. 7) brings a token back as `h + Δ`, where Δ is the change
of its group's merged token from the first stage to the next. An unpruned run gives the changes of
the group's members themselves. Δ is compared with their mean change; another group of the same
picture is the control. The
paper shows this as a t-SNE of changes; here it is numbers, with intervals, and `--picture` draws
one picture's changes beside them (`tokenlens.analyses.merged_change`).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokenlens.measures.intervals import bootstrap_interval
from tokenlens.measures.offsets import group_offsets
from tokenlens.models.batch import Batch
from tokenlens.progress import progress
from tokenlens.storage.files import write_bytes
from tokenlens.storage.output_claims import figure_target

from .. import merged_change
from ..drawing.canvas import panels
from ..drawing.finished import render
from ..drawing.style import LIGHT, Theme, shorten, themed
from . import command
from .group_changes import GroupChanges, check_schedule, group_changes
from .paired_difference import markdown_table

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.samples.sample import Sample
    from tokenlens.schedule import Schedule

MEASURES = {
    "cosine": "cosine of Δ and the group's true mean change",
    "cosine_other": "… and another group's (control)",
    "error": "length of Δ minus the group's true mean change, over that change's",
    "error_other": "… minus another group's (control)",
    "left": "squared error of the members with Δ, over that with no offset",
    "left_other": "… with another group's Δ (control)",
    "left_mean": "… with the group's true mean change, the best a group can have",
    "left_all": "… with the true mean change of all tokens set aside",
    "own": "share of a member's state that is its own, not its group's mean, before",
    "own_aligned": "… after alignment",
    "own_true": "… in the unpruned model",
    "alike": "cosine of a member's hidden state and its seed's",
    "alike_other": "… and another seed's (control)",
}
"""Measures of each group with their names in the table; Δ is its merged token's change."""


def compute(
    vlm: VLM,
    samples: Sequence[Sample],
    schedule: Schedule,
    *,
    batch_size: int = 8,
    seed: int = 0,
    show_progress: bool = False,
) -> pd.DataFrame:
    """Measure every group of the first stage of `schedule`, between this stage and the second.

    Args:
        vlm: a model with its processor.
        samples: pictures and questions.
        schedule: its first stage is a bypass with merged tokens.
        batch_size: samples per batch.
        seed: seed of the choice of each group's control group.
        show_progress: show a bar with an ETA on standard error.

    Returns:
        A row per group: `sample` (id), `seed` (its seed's position in the sample's padded input),
        `members` (how many, the seed among them) and `MEASURES`; see
        `tokenlens.measures.offsets.group_offsets`. Changes are those of the hidden states entering
        the first layers on fewer tokens of the two stages.

    Raises:
        ScheduleError: the first stage is no bypass with merged tokens.
    """
    check_schedule(schedule)
    rng, tables = np.random.default_rng(seed), []
    with progress("measuring", len(samples), 0, show_progress) as advance:
        for start in range(0, len(samples), batch_size):
            batch = Batch.of(vlm, samples[start : start + batch_size])
            found = group_changes(vlm, batch, schedule)
            for sample, changes in zip(batch.samples, found, strict=True):
                table = _measured(changes, rng)
                table.insert(0, "sample", sample.id)
                tables.append(table)
            advance(len(batch.samples))
    return pd.concat(tables, ignore_index=True)


def _measured(changes: GroupChanges, rng: np.random.Generator) -> pd.DataFrame:
    """The groups of one sample; each one's control is the group so many places further."""
    count = len(changes.seeds)
    measures = group_offsets(
        changes.before,
        changes.after,
        changes.offset,
        changes.member_of,
        np.searchsorted(changes.positions, changes.seeds),
        int(rng.integers(1, count)) if count > 1 else 0,
    )
    return pd.DataFrame({"seed": changes.seeds, **measures})


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """`MEASURES` as columns measure, mean, low and high: means over samples of their groups' means.

    Ends are those of 95 % bootstrap intervals over samples; a sample without a value is left out,
    and so is a measure that no sample has.
    """
    means = table.groupby("sample", sort=False)[list(MEASURES)].mean()
    rows = [
        (name, *map(float, bootstrap_interval(values)))
        for name in MEASURES
        if len(values := means[name].dropna())
    ]
    return pd.DataFrame(rows, columns=["measure", "mean", "low", "high"])


def sizes(table: pd.DataFrame) -> dict[str, float]:
    """How many groups a sample has, and how large they are.

    `groups` per sample; members over all groups (`least`, `quarter`, `median`, `three_quarters`,
    `most`); `alone`, the share of groups that are their seed alone; `largest`, the mean share of a
    sample's tokens that its largest group holds.
    """
    samples = table.groupby("sample")["members"]
    names = ("least", "quarter", "median", "three_quarters", "most")
    return {
        "groups": float(samples.size().mean()),
        **dict(zip(names, table["members"].quantile([0, 0.25, 0.5, 0.75, 1]), strict=True)),
        "alone": float((table["members"] == 1).mean()),
        "largest": float((samples.max() / samples.sum()).mean()),
    }


def markdown(tables: Mapping[str, pd.DataFrame]) -> str:
    """Measures, and the sizes of groups, with a column for each of `tables`, by its heading."""
    summaries = [summary(table).set_index("measure") for table in tables.values()]
    counted = [sizes(table) for table in tables.values()]
    lines = [
        [words, *(_cell(found, name) for found in summaries)] for name, words in MEASURES.items()
    ]
    lines.append(["groups per sample", *(f"{size['groups']:.1f}" for size in counted)])
    lines.append(
        [
            "members of a group: least, quartiles, most",
            *(", ".join(f"{n:g}" for n in list(size.values())[1:6]) for size in counted),
        ]
    )
    lines.append(
        [
            "share of a sample's tokens in its largest group",
            *(f"{size['largest']:.2f}" for size in counted),
        ]
    )
    return markdown_table(["", *tables], lines)


def _cell(found: pd.DataFrame, name: str) -> str:
    if name not in found.index:
        return "\N{EN DASH}"
    return "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**found.loc[name])


_PANELS = {
    "cosine with true change": {"cosine": "its own", "cosine_other": "another group's"},
    "own share of a state": {"own": "before", "own_aligned": "aligned", "own_true": "unpruned"},
    "members of a group": {"members": ""},
}
"""Panels of the figure: title, and the columns drawn with their names in the legend."""


def plot(
    tables: Mapping[str, pd.DataFrame],
    *,
    axes: Sequence[Axes] | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Distributions over groups: cosine with its control, members' own share, and sizes."""
    with themed(theme):
        size = (theme.width, 0.4 + 1.9 * len(tables))
        figure, grid = panels(axes, size, (len(tables), len(_PANELS)), sharex="col")
        for line, (heading, table) in zip(grid, tables.items(), strict=True):
            for panel, (title, drawn) in zip(line, _PANELS.items(), strict=True):
                counted = title == "members of a group"
                edges = np.linspace(
                    table[list(drawn)].min().min(), table[list(drawn)].max().max(), 30
                )
                for colour, (name, words) in zip(theme.series, drawn.items(), strict=False):
                    panel.hist(
                        table[name].dropna(),
                        bins=np.arange(0.5, table[name].max() + 1) if counted else edges,
                        histtype="step",
                        color=colour,
                        label=words,
                    )
                panel.spines[["top", "right"]].set_visible(False)
                panel.set_yticks([])
                panel.margins(y=0.4 if panel in grid[0] else 0.05)
            line[0].set_ylabel(shorten(heading, 32), fontsize=7)
        for panel, title in zip(grid[0], _PANELS, strict=True):
            panel.set_title(title)
            if panel.get_legend_handles_labels()[1]:
                panel.legend(loc="upper left", ncols=2)
    return figure


def main() -> None:
    """Profile the model where needed, choose layers, measure, and print the table."""
    parser = command.arguments(
        "merged_offset", "Merged tokens' changes against those of the tokens they stand for."
    )
    parser.add_argument("--figure", type=Path, help="draw the spread too: a .svg or .png file")
    parser.add_argument(
        "--picture", type=Path, help="draw the changes on one picture too: a .svg or .png file"
    )
    command.run(parser, _report)


def _report(options: Namespace) -> str:
    from tokenlens.methods.plan import plan

    target = figure_target(options.figure) if options.figure else None
    picture = figure_target(options.picture) if options.picture else None
    setting = command.Setting.of(options, "merged-offset")
    tables: dict[str, pd.DataFrame] = {}
    for budget in setting.budgets:
        schedule = plan(setting.profile, stages=setting.stages, budget=budget).schedule
        if picture and not tables:
            changes = merged_change.compute(setting.vlm, setting.held_out[0], schedule)
        layers = ", ".join(str(stage.score_layer) for stage in schedule.stages[:2])
        tables[f"{setting.vlm.id}, {budget}, layers {layers}"] = compute(
            setting.vlm,
            setting.held_out,
            schedule,
            batch_size=setting.batch_size,
            show_progress=True,
        )
    if picture:
        first = next(iter(tables.values()))
        image = setting.held_out[0].open_image()
        drawn = merged_change.plot(changes, image, cosines=first[["cosine", "cosine_other"]])
        write_bytes(picture, render(drawn, picture.suffix))
    if target:
        write_bytes(target, render(plot(tables), target.suffix))
    return markdown(tables)


if __name__ == "__main__":
    main()
