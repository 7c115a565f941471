"""How many visual tokens stages leave in every layer, before anything is run."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from tokenlens.schedule.disposal_kinds import disposal_kind
from tokenlens.schedule.parts import Keep, Stage


def keep_count(keep: Keep, n_visual: int) -> int:
    """Tokens selected of a sample with `n_visual` visual tokens; a ratio keeps at least one.

    >>> keep_count(0.5, 145), keep_count(0.001, 144), keep_count(24, 144), keep_count(24, 9)
    (73, 1, 24, 9)
    >>> keep_count("none", 144)
    0
    """
    if keep == "none":
        return 0
    count = keep if isinstance(keep, int) else max(1, math.floor(keep * n_visual + 0.5))
    return min(count, n_visual)


def stage_tokens(stages: Sequence[Stage], n_visual: int, layers: int) -> list[int]:
    """Visual tokens entering each of `layers` layers, merged ones counted, for one sample."""
    entering = [n_visual] * layers
    for stage, counts in zip(stages, stage_counts(stages, n_visual), strict=True):
        entering[stage.first_layer - 1 :] = [counts.alive] * (layers - stage.first_layer + 1)
    return entering


class StageCounts(NamedTuple):
    """What a stage chooses among, what it keeps, and how many merged tokens stand for the rest."""

    candidates: int
    kept: int
    merged: int

    @property
    def rest(self) -> int:
        """Tokens not kept."""
        return self.candidates - self.kept

    @property
    def alive(self) -> int:
        """Tokens that enter the next layer."""
        return self.kept + self.merged


def stage_counts(stages: Sequence[Stage], n_visual: int) -> list[StageCounts]:
    """The counts of every stage, for one sample of `n_visual` visual tokens."""
    found = []
    candidates = n_visual
    for stage in stages:
        kept = min(keep_count(stage.keep, n_visual), candidates)
        disposal = disposal_kind(stage.disposal)
        counts = StageCounts(candidates, kept, disposal.merged(stage.merge, candidates - kept))
        candidates = {"kept": kept, "alive": counts.alive, "all": candidates}[disposal.later]
        found.append(counts)
    return found
