"""The types of importances, and finding one by its name."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from tokenlens.errors import ProbeError
from tokenlens.probing.attention_call import AttentionCall
from tokenlens.registry import IMPORTANCES
from tokenlens.wording.printable import shown
from tokenlens.wording.suggest import one_of

Scale = Callable[[AttentionCall, int, Tensor], Tensor]
"""A function from an attention call, the index of a sample and the positions of its visual tokens
(int64 [n_visual]) to the factors of their attention: float32 [heads, n_visual]."""


@dataclass(frozen=True)
class Importance:
    """Base class of importances; one is a `RowImportance` or a `RunImportance`.

    Attributes:
        summary: one line for the user.
        unit: what a value is, for the colour bar of a map.
        source: where it was published.
        by_head: whether it is the mean of what every head has.
    """

    summary: str = field(kw_only=True)
    unit: str = field(kw_only=True)
    source: str = field(kw_only=True)
    by_head: bool = field(default=True, kw_only=True)


@dataclass(frozen=True)
class RowImportance(Importance):
    """Rows of attention, weighted or not: read beside a forward pass, of any query token.

    Attributes:
        scale: what attention is multiplied by; None leaves it as it is.
    """

    scale: Scale | None


def importance_named(name: str) -> Importance:
    """The importance of that name. Raises `ProbeError` where there is none."""
    if not isinstance(name, str) or name not in IMPORTANCES:
        known = one_of(name, IMPORTANCES) if isinstance(name, str) else ", ".join(IMPORTANCES)
        raise ProbeError(f"importance: got {shown(name)}, expected {known}")
    found = IMPORTANCES[name]
    if not isinstance(found, Importance):
        raise ProbeError(f"importance {name!r} is a {type(found).__name__}, expected an Importance")
    return found
