"""Number of visual tokens in every layer under some stages, computed without running a model."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from tokenlens.schedule.disposal_kinds import disposal_kind
from tokenlens.schedule.parts import Keep, MassKeep, Stage


def keep_count(keep: Keep, n_visual: int) -> int:
    """Tokens selected of a sample with `n_visual` visual tokens; a ratio keeps at least one.

    >>> keep_count(0.5, 145), keep_count(0.001, 144), keep_count(24, 144), keep_count(24, 9)
    (73, 1, 24, 9)
    >>> keep_count("none", 144)
    0

    For a keep by mass it is the expected number where importance is exponentially distributed (the
    maximum-entropy distribution of positive numbers with a given mean): the share f of the tokens
    that holds the share p of the importance then satisfies f·(1 - ln f) = p.

    >>> keep_count(MassKeep(mass=0.9), 144), keep_count(MassKeep(mass=0.9, most=48), 144)
    (85, 48)
    """
    if isinstance(keep, MassKeep):
        return within_limits(keep, _expected(keep.mass, n_visual), n_visual)
    if keep == "none":
        return 0
    count = keep if isinstance(keep, int) else max(1, math.floor(keep * n_visual + 0.5))
    return min(count, n_visual)


def within_limits(keep: MassKeep, count: int, n_visual: int) -> int:
    """`count` limited to the range of a keep by mass, for a sample of `n_visual` visual tokens.

    >>> limits = MassKeep(mass=0.9, least=8, most=0.25)
    >>> [within_limits(limits, count, 144) for count in (3, 20, 90)]
    [8, 20, 36]
    """
    return min(max(count, keep_count(keep.least, n_visual)), keep_count(keep.most, n_visual))


def _expected(mass: float, n_visual: int) -> int:
    """Tokens of `n_visual` that hold the share `mass` of exponentially distributed importance."""
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        less = middle * (1 - math.log(middle)) < mass
        low, high = (middle, high) if less else (low, middle)
    return math.ceil(high * n_visual - 1e-6)


def at_most(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The same stages, each with the most tokens it can keep: the worst case of a keep by mass."""
    return tuple(
        stage.model_copy(update={"keep": stage.keep.most})
        if isinstance(stage.keep, MassKeep)
        else stage
        for stage in stages
    )


def stage_tokens(stages: Sequence[Stage], n_visual: int, layers: int) -> list[int]:
    """Visual tokens entering each of `layers` layers, merged ones counted, for one sample."""
    entering = [n_visual] * layers
    for stage, counts in zip(stages, stage_counts(stages, n_visual), strict=True):
        entering[stage.first_layer - 1 :] = [counts.alive] * (layers - stage.first_layer + 1)
    return entering


def stage_readable(stages: Sequence[Stage], n_visual: int, layers: int) -> list[int]:
    """As `stage_tokens`, frozen tokens included: those that each layer can attend to."""
    readable = [n_visual] * layers
    for stage, counts in zip(stages, stage_counts(stages, n_visual), strict=True):
        readable[stage.first_layer - 1 :] = [counts.readable] * (layers - stage.first_layer + 1)
    return readable


class StageCounts(NamedTuple):
    """A stage's numbers of candidates, of kept tokens, and of merged tokens that replace the rest.

    `frozen` is the number of tokens that stay readable without being updated.
    """

    candidates: int
    kept: int
    merged: int
    frozen: int = 0

    @property
    def rest(self) -> int:
        """Tokens not kept."""
        return self.candidates - self.kept

    @property
    def alive(self) -> int:
        """Tokens that enter the next layer."""
        return self.kept + self.merged

    @property
    def readable(self) -> int:
        """Tokens that the next layer can attend to: those that enter it, and the frozen ones."""
        return self.alive + self.frozen


def stage_counts(stages: Sequence[Stage], n_visual: int) -> list[StageCounts]:
    """The counts of every stage, for one sample of `n_visual` visual tokens."""
    found = []
    candidates = n_visual
    for stage in stages:
        kept = min(keep_count(stage.keep, n_visual), candidates)
        disposal = disposal_kind(stage.disposal)
        rest = candidates - kept
        frozen = rest if disposal.readable else 0
        counts = StageCounts(candidates, kept, disposal.merged(stage.merge, rest), frozen)
        candidates = {"kept": kept, "alive": counts.alive, "all": candidates}[disposal.later]
        found.append(counts)
    return found
