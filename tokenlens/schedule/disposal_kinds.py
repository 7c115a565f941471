"""What a schedule must know of a disposal: how many tokens it makes, and whether they come back.

How a disposal is carried out is `tokenlens.pruning.disposal`'s business, which needs torch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from tokenlens.registry import DISPOSAL_SUMMARIES, DISPOSALS


def merge_count(merge: int | float, not_kept: int) -> int:
    """Merged tokens that stand for `not_kept` tokens; a positive ratio makes at least one.

    >>> merge_count(0.1, 72), merge_count(0.1, 3), merge_count(8, 3), merge_count(0, 72)
    (7, 1, 3, 0)
    """
    if isinstance(merge, int) or merge == 0:
        return min(int(merge), not_kept)
    return min(not_kept, max(1, math.floor(merge * not_kept + 0.5)))


def clustered(rest: int) -> int:
    """How many of `rest` tokens "recycle" clusters: floor(0.3·rest) + 1, none of none.

    >>> clustered(276), clustered(1), clustered(0)
    (83, 1, 0)
    """
    return 3 * rest // 10 + 1 if rest else 0


def recycled(_: int | float, rest: int) -> int:
    """How many clusters `rest` tokens make: one, and another for every ten that are clustered.

    >>> recycled(0, 276), recycled(0, 5), recycled(0, 0)
    (9, 1, 0)
    """
    return clustered(rest) // 10 + 1 if rest else 0


@dataclass(frozen=True, kw_only=True)
class DisposalKind:
    """A disposal as schedules see it.

    Attributes:
        merged: of a stage's `merge` and the number of tokens not kept, how many merged tokens are
            made of them.
        later: what competes at the next stage: the tokens "kept", those "alive" (merged ones too),
            or "all", since what was set aside comes back.
        readable: whether what is set aside stays readable: every layer makes keys and values of it
            until the next stage, or to the end. It is set aside without groups.
        settable: whether a stage's `merge` says how many merged tokens there are.
        summary: one line for the user: what becomes of the rest.
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
    """What schedules must know of the disposal `name`, another package's included."""
    return KINDS[name] if name in KINDS else cast(DisposalKind, DISPOSALS[name])
