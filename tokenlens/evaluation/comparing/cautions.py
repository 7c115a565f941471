"""Cautions about what a comparison's samples cannot show."""

from collections.abc import Iterable

import pandas as pd

from tokenlens.evaluation.running.results import ALL, MACRO
from tokenlens.schedule import Schedule
from tokenlens.schedule.budget import Budget
from tokenlens.wording import cautions


def score_cautions(table: pd.DataFrame, images: Iterable[str]) -> list[str]:
    """Cautions about the scores.

    Args:
        table: result of `Comparison.table`, the unpruned model first.
        images: file name of each sample's picture; empty for a picture in memory.
    """
    tasks = table[~table["task"].isin([ALL, MACRO])]
    unpruned = tasks[tasks["arm"] == table["arm"].iloc[0]]
    scored = unpruned["samples"] - unpruned["unscored"]
    pruned = tasks["arm"] != table["arm"].iloc[0]
    flat = tasks[_is_flat(tasks, "score") | (pruned & _is_flat(tasks, "retained"))]
    return [
        *cautions.on_few(dict(zip(unpruned["task"], scored.astype(int), strict=True))),
        *cautions.on_pictures(list(images)),
        *cautions.on_zero_baseline(unpruned.loc[unpruned["score"] == 0, "task"].to_list()),
        *cautions.on_flat_intervals(
            f"{cautions.named(arm)} in {cautions.named(task)}"
            for task, arm in zip(flat["task"], flat["arm"], strict=True)
        ),
    ]


def choice_cautions(
    schedules: Iterable[Schedule | None], source: str | None, split: str | None
) -> list[str]:
    """Cautions about the choice of layers, also where it is evaluated on the data it was made on.

    Args:
        schedules: schedules that were run.
        source: the samples' data set; None for samples in memory.
        split: split of the data set; None where it has no splits.
    """
    said: list[str] = []
    for schedule in schedules:
        why = schedule.why if schedule else None
        if why is None:
            continue
        if source is not None and (why.data, why.split) == (source, split):
            said += cautions.on_own_samples(f"{source}, {split}" if split else source)
        said += [f"On the choice of layers: {sentence}" for sentence in why.cautions or ()]
    return list(dict.fromkeys(said))


def length_cautions(schedules: Iterable[Schedule | None], n_visual: float) -> list[str]:
    """Cautions about budgets that are no share of what samples with `n_visual` visual tokens have.

    Args:
        schedules: schedules that were run.
        n_visual: visual tokens of a sample, mean over those with a picture; 0 where none has one.
    """
    said: list[str] = []
    for schedule in schedules:
        note = schedule.budget if schedule and n_visual else None
        if note is None or note.is_share or note.n_visual is None:
            continue
        if schedule and any(type(stage.keep) is int for stage in schedule.stages):
            continue
        in_macs = note.macs is not None
        budget = Budget(float(note.macs or note.average), "MACs" if in_macs else "tokens")
        said += cautions.on_other_lengths(str(budget), note.n_visual, n_visual)
    return list(dict.fromkeys(said))


def _is_flat(table: pd.DataFrame, figure: str) -> pd.Series:
    return table[f"{figure}_low"] == table[f"{figure}_high"]
