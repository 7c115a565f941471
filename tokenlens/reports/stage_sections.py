"""Section about stages: the visual tokens that every stage of a schedule kept, on some pictures."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tokenlens.analyses import kept_tokens
from tokenlens.analyses.kept_tokens import Fate
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.reports.figures import FigureFolder
from tokenlens.reports.overlays import Overlay, overlay, png_uri
from tokenlens.reports.sheet import Sheet
from tokenlens.reports.shown_samples import candidates, choose_samples
from tokenlens.schedule import Schedule
from tokenlens.wording.figures import counted


@dataclass(frozen=True)
class StageTile:
    """Result of one stage on one picture; `back` are (x, y, width, height), `seeds` (x, y)."""

    caption: str
    summary: str
    veil: str
    back: list[tuple[float, ...]]
    seeds: list[tuple[float, ...]]
    radius: float


@dataclass(frozen=True)
class StageCase:
    """One sample, its answers, and its tokens at every stage."""

    question: str
    answers: str
    task: str
    unpruned: str
    pruned: str
    missing: str | None
    overlay: Overlay
    tiles: list[StageTile]
    wide: bool


def stage_cases(
    comparison: Comparison, arm: str, schedule: Schedule, count: int, figures: FigureFolder
) -> list[StageCase]:
    """Tokens kept by every stage, on some of the pictures of the arm's samples.

    Only pictures on which the positions of visual tokens are known are used.
    """
    results, unpruned = comparison.arms[arm], next(iter(comparison.arms.values()))
    places = choose_samples(candidates(results), count)
    rows = results.by_place(places)
    cases = []
    for number, place in enumerate(places, start=1):
        row, plain = rows[place], unpruned.outcomes.iloc[place]
        sheet = Sheet.of(row)
        outlines = sheet.outlines(row)
        picture, missing = sheet.picture(row)
        frame = kept_tokens.compute([sheet.placed(row)], schedule)
        cases.append(
            StageCase(
                question=row["question"],
                answers=" / ".join(row["answers"]),
                task=row["task"],
                unpruned=plain["prediction"],
                pruned=row["prediction"],
                missing=missing,
                overlay=overlay(picture, outlines),
                tiles=[
                    stage_tile(where, part, sheet.size)
                    for (_, where), part in frame.groupby(["stage", "where"], sort=False)
                ],
                wide=sheet.wide,
            )
        )
        figure = kept_tokens.plot(frame, {row["id"]: picture}, regions={row["id"]: outlines})
        figures.add(f"kept-tokens-{number}", figure)
    return cases


def stage_tile(where: str, stage: pd.DataFrame, size: tuple[int, int]) -> StageTile:
    """Result of one stage on a picture of `size` (width, height), from `kept_tokens` rows."""
    fates = stage["fate"].to_numpy()
    boxes = stage[["x0", "y0", "x1", "y1"]].to_numpy()
    pixels = boxes * [*size, *size]
    sides = pixels[:, 2:] - pixels[:, :2]
    back, seeds = fates == Fate.BACK, fates == Fate.SEED
    kept = int((fates == Fate.KEPT).sum() + back.sum())
    summary = [f"{kept} of {len(fates)} kept"]
    summary += [f"{back.sum()} brought back"] if back.any() else []
    summary += [counted(int(seeds.sum()), "merged token")] if seeds.any() else []
    return StageTile(
        caption=where,
        summary=", ".join(summary),
        veil=png_uri(kept_tokens.veil(fates, boxes)),
        back=_numbers(np.hstack([pixels[:, :2], sides])[back]),
        seeds=_numbers(((pixels[:, :2] + pixels[:, 2:]) / 2)[seeds]),
        radius=round(float(np.median(sides)) / 6, 2),
    )


def _numbers(rows: np.ndarray) -> list[tuple[float, ...]]:
    return [tuple(round(float(value), 2) for value in row) for row in rows]
