"""Does a merged token change like the tokens it stands for? One picture of it, and the numbers.

    python -m tokenlens.analyses.studies.merged_offset --model tiny-llava --picture changes.png

SwiftVLM (arXiv 2602.03134, Fig. 7) shows by a t-SNE that a merged token changes as its group's
tokens do. Here the changes are projected on their first two principal components, which keep
distances and need no settings, and the cosines of all groups stand beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from tokenlens.models.batch import Batch
from tokenlens.wording.figures import percent

from .drawing.style import LIGHT, Theme, legend_columns, themed
from .studies.group_changes import check_schedule, group_changes

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.samples.sample import Sample
    from tokenlens.schedule import Schedule

GROUPS = 5
"""So many groups, the largest, have a colour."""
MEMBER, MEAN, MERGED = "member", "group's mean", "merged token"


def compute(vlm: VLM, sample: Sample, schedule: Schedule) -> pd.DataFrame:
    """The changes of one sample's set-aside tokens between the first stage and the second.

    Args:
        vlm: a model with its processor, of a family that is laid out.
        sample: picture and question.
        schedule: its first stage is a bypass with merged tokens.

    Returns:
        A row per token set aside (`kind` "member"), per group's mean and per merged token: `group`
        (0 the largest), `x` and `y` (components of the change, in units of the hidden states),
        `x0`, `y0`, `x1`, `y1` (a member's box, shares of its picture) and `explained_x`,
        `explained_y` (shares of the members' variance).

    Raises:
        ScheduleError: the first stage is no bypass with merged tokens.
    """
    check_schedule(schedule)
    batch = Batch.of(vlm, [sample])
    (changes,) = group_changes(vlm, batch, schedule)
    boxes = batch.layouts[0].boxes[changes.visual]
    true = changes.after - changes.before
    count = len(changes.seeds)
    order = np.argsort(-np.bincount(changes.member_of, minlength=count), kind="stable")
    rank = np.argsort(order)
    means = np.stack([true[changes.member_of == one].mean(axis=0) for one in range(count)])
    axes, explained = _components(true)
    centre = true.mean(axis=0)
    parts = [
        _rows(MEMBER, rank[changes.member_of], (true - centre) @ axes.T),
        _rows(MEAN, rank, (means - centre) @ axes.T),
        _rows(MERGED, rank, (changes.offset - centre) @ axes.T),
    ]
    parts[0][["x0", "y0", "x1", "y1"]] = np.asarray(boxes)
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(explained_x=explained[0], explained_y=explained[1])


def _components(changes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The first two principal components [2, hidden] of rows, and their shares of the variance."""
    _, scales, axes = np.linalg.svd(changes - changes.mean(axis=0), full_matrices=False)
    shares = scales**2 / max(float((scales**2).sum()), np.finfo(np.float64).tiny)
    missing = max(0, 2 - len(axes))
    return np.pad(axes[:2], ((0, missing), (0, 0))), np.pad(shares[:2], (0, missing))


def _rows(kind: str, groups: NDArray[np.int64], places: NDArray[np.float64]) -> pd.DataFrame:
    return pd.DataFrame({"kind": kind, "group": groups, "x": places[:, 0], "y": places[:, 1]})


def plot(
    frame: pd.DataFrame,
    picture: Image.Image,
    *,
    cosines: pd.DataFrame | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Groups on the picture, their tokens' changes with the merged tokens', and all cosines.

    Args:
        frame: result of `compute`, of a sample with one picture.
        picture: its picture.
        cosines: columns `cosine` and `cosine_other` of `studies.merged_offset.compute`, of many
            samples; None leaves this panel out.
        theme: colours and width.
    """
    count = 2 if cosines is None else 3
    across = theme.across(2.0, most=count)
    down = -(-count // across)
    with themed(theme):
        figure = Figure(figsize=(theme.width, 0.5 + 2.5 * down), layout="constrained")
        places = figure.add_gridspec(down, across)
        axes = [figure.add_subplot(places[divmod(one, across)]) for one in range(count)]
        _draw_groups(axes[0], frame, picture, theme)
        _draw_changes(axes[1], frame, theme)
        if cosines is not None:
            _draw_cosines(axes[2], cosines, theme)
        handles, labels = axes[1].get_legend_handles_labels()
        columns = min(len(labels), legend_columns(labels, theme))
        figure.legend(handles, labels, loc="outside upper center", ncols=columns)
    return figure


def _draw_groups(axes: Axes, frame: pd.DataFrame, picture: Image.Image, theme: Theme) -> None:
    """The picture in grey, with the largest groups' tokens in their colours."""
    width, height = picture.size
    axes.imshow(picture.convert("L"), cmap="gray", extent=(0, 1, 1, 0), alpha=0.55)
    axes.set_aspect(height / width)
    members = frame[(frame["kind"] == MEMBER) & (frame["group"] < GROUPS)]
    for row in members.itertuples():
        size = (row.x1 - row.x0, row.y1 - row.y0)
        axes.add_patch(
            Rectangle((row.x0, row.y0), *size, color=theme.series[row.group], alpha=0.6, lw=0)
        )
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
    axes.spines[:].set_visible(False)
    axes.set_title("the largest groups", fontsize=7.5)


def _draw_changes(axes: Axes, frame: pd.DataFrame, theme: Theme) -> None:
    """Members' true changes, each group's mean, and a line from it to its merged token's change."""
    for kind, marker, size in ((MEMBER, "o", 7), (MEAN, "D", 26), (MERGED, "*", 70)):
        rows = frame[frame["kind"] == kind]
        colours = [
            theme.series[group] if group < GROUPS else theme.faint for group in rows["group"]
        ]
        axes.scatter(
            rows["x"],
            rows["y"],
            s=size,
            c=colours,
            marker=marker,
            linewidths=0 if kind == MEMBER else 0.6,
            edgecolors=theme.ink,
            alpha=0.45 if kind == MEMBER else 1,
            zorder=2 if kind == MEMBER else 4,
        )
        axes.scatter([], [], s=size, c=theme.faint, marker=marker, label=_LABELS[kind])
    ends = frame.pivot_table(index="group", columns="kind", values=["x", "y"])
    for row in ends[[("x", MEAN), ("x", MERGED), ("y", MEAN), ("y", MERGED)]].to_numpy():
        axes.plot(row[:2], row[2:], color=theme.ink, linewidth=0.7, zorder=3)
    first, second = frame[["explained_x", "explained_y"]].iloc[0]
    beyond = _frame_most(axes, frame)
    words = f"; {beyond} members beyond" if beyond else ""
    axes.set_xlabel(f"component 1 ({percent(first)}{words})", fontsize=7)
    axes.set_ylabel(f"component 2 ({percent(second)})", fontsize=7)
    axes.set(xticks=[], yticks=[])
    axes.set_title("changes of this picture", fontsize=7.5)


def _frame_most(axes: Axes, frame: pd.DataFrame) -> int:
    """Limit the axes to all means and merged tokens and nearly all members; how many are beyond."""
    members, others = frame[frame["kind"] == MEMBER], frame[frame["kind"] != MEMBER]
    inside = np.ones(len(members), dtype=bool)
    for name, limit in (("x", axes.set_xlim), ("y", axes.set_ylim)):
        ends = [*members[name].quantile([_TAIL, 1 - _TAIL]), *others[name]]
        low, high = min(ends), max(ends)
        room = _MARGIN * (high - low) or 1.0
        limit(low - room, high + room)
        inside &= members[name].between(low - room, high + room).to_numpy()
    return int((~inside).sum())


_TAIL, _MARGIN = 0.03, 0.08
"""Share of the members at each end that may be beyond the frame, and the room around the others."""
_LABELS = {
    MEMBER: "a member's true change",
    MEAN: "its group's mean",
    MERGED: "the merged token's",
}


def _draw_cosines(axes: Axes, cosines: pd.DataFrame, theme: Theme) -> None:
    """How alike a merged token's change and a group's mean are, over all groups: the numbers."""
    edges = np.linspace(min(0.0, float(np.nanmin(cosines.to_numpy()))), 1, 26).tolist()
    names = {"cosine_other": ("another", theme.faint), "cosine": ("its own", theme.accent)}
    for name, (words, colour) in names.items():
        values = cosines[name].dropna()
        label = f"{words}: {values.mean():.2f}"
        axes.hist(values, bins=edges, color=colour, alpha=0.6, label=label)
    axes.set_xlabel("cosine with a group's mean change", fontsize=7)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(f"all {len(cosines)} groups", fontsize=7.5)
    axes.margins(y=0.35)
    axes.legend(loc="upper left", title="group", title_fontsize=7, fontsize=7, borderpad=0.1)
