"""Disposals as schedules see them: the number of merged tokens, and whether tokens come back.

`tokenlens.pruning.disposal`, which needs torch, carries disposals out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from tokenlens.registry import DISPOSAL_SUMMARIES, DISPOSALS


def merge_count(merge: int | float, not_kept: int) -> int:
    """Number of merged tokens that replace `not_kept` tokens; a positive ratio gives at least one.

    >>> merge_count(0.1, 72), merge_count(0.1, 3), merge_count(8, 3), merge_count(0, 72)
    (7, 1, 3, 0)
    """
    if isinstance(merge, int) or merge == 0:
        return min(int(merge), not_kept)
    return min(not_kept, max(1, math.floor(merge * not_kept + 0.5)))


def clustered(rest: int) -> int:
    """Number of the `rest` tokens that "recycle" clusters: floor(0.3·rest) + 1, or 0 for 0.

    >>> clustered(276), clustered(1), clustered(0)
    (83, 1, 0)
    """
    return 3 * rest // 10 + 1 if rest else 0


def recycled(_: int | float, rest: int) -> int:
    """Number of clusters of `rest` tokens: one, and one more for every ten clustered tokens.

    >>> recycled(0, 276), recycled(0, 5), recycled(0, 0)
    (9, 1, 0)
    """
    return clustered(rest) // 10 + 1 if rest else 0


@dataclass(frozen=True, kw_only=True)
class DisposalKind:
    """A disposal as schedules see it.

    Attributes:
        merged: a function from a stage's `merge` and the number of tokens not kept to the number of
            merged tokens.
        later: the candidates of the next stage: the tokens "kept", those "alive" (merged ones too),
            or "all", where the tokens set aside come back.
        readable: whether the tokens set aside stay readable: every layer makes keys and values of
            them until the next stage, or to the end. They are set aside without groups.
        settable: whether a stage's `merge` sets the number of merged tokens.
        summary: one line for the user: what happens to the rest.
    """

    merged: Callable[[int | float, int], int] = merge_count
    later: Literal["kept", "alive", "all"] = "alive"
    settable: bool = True
    readable: bool = False
    summary: str = ""

    @property
    def returns(self) -> bool:
        """Whether the tokens come back at the next stage, which must then be a `before` one."""
        return self.later == "all"


KINDS = {
    "drop": DisposalKind(
        merged=lambda _merge, _rest: 0,
        later="kept",
        settable=False,
        summary=DISPOSAL_SUMMARIES["drop"],
    ),
    "merge": DisposalKind(summary=DISPOSAL_SUMMARIES["merge"]),
    "recycle": DisposalKind(
        merged=recycled,
        settable=False,
        summary=DISPOSAL_SUMMARIES["recycle"],
    ),
    "contextual": DisposalKind(summary=DISPOSAL_SUMMARIES["contextual"]),
    "freeze": DisposalKind(
        merged=lambda _merge, _rest: 0,
        later="all",
        settable=False,
        readable=True,
        summary=DISPOSAL_SUMMARIES["freeze"],
    ),
    "bypass": DisposalKind(later="all", summary=DISPOSAL_SUMMARIES["bypass"]),
}
"""Those of tokenlens itself."""


def disposal_kind(name: str) -> DisposalKind:
    """The disposal `name` as schedules see it; it may come from another package."""
    return KINDS[name] if name in KINDS else cast(DisposalKind, DISPOSALS[name])
