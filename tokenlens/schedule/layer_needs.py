"""What each layer needs of the visual tokens, as methods are told it: measured, or assumed."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, exp, inf, isnan, log
from typing import Self

from tokenlens.errors import ScheduleError

_NOTHING = 0.0
_LEAST_LOSS = 1e-9


@dataclass(frozen=True)
class PathLoss:
    """What is lost on one path, at some shares of the unpruned prefill's MACs.

    Attributes:
        path: name of the path (see `tokenlens.selection.candidate_paths`).
        shares: shares of the MACs in (0, 1], ascending; one at least.
        losses: loss at each of them, in any unit; at least 0.
    """

    path: str
    shares: tuple[float, ...]
    losses: tuple[float, ...]

    def at(self, share: float) -> float:
        """The loss at a share of the MACs.

        Between two measured shares the logarithm of the loss is interpolated. Below the smallest
        one, where the path could not be followed, the loss is infinite; above the largest one it is
        that of the largest.

        >>> PathLoss("modes", (0.2, 0.4), (1.0, 0.01)).at(0.3)
        0.1
        """
        if share < self.shares[0]:
            return inf
        if share >= self.shares[-1]:
            return self.losses[-1]
        above = max(1, bisect_left(self.shares, share))
        (low, high), (most, least) = (
            self.shares[above - 1 : above + 1],
            (max(loss, _LEAST_LOSS) for loss in self.losses[above - 1 : above + 1]),
        )
        part = (share - low) / (high - low)
        return round(exp((1 - part) * log(most) + part * log(least)), 12)


@dataclass(frozen=True)
class LayerNeeds:
    """What is lost where a layer alone goes without, in any unit, by layer; at least 0.

    Attributes:
        update: where the layer does not update visual tokens, which stay readable.
        read: where it has none: they are neither updated nor readable in it.
        paths: what is lost on whole paths, where that was measured.

    Raises `ScheduleError` where the two are of unlike length, or a number is below 0 or none.
    """

    update: tuple[float, ...]
    read: tuple[float, ...]
    paths: tuple[PathLoss, ...] = ()

    def __post_init__(self) -> None:
        if len(self.update) != len(self.read) or not self.update:
            raise ScheduleError(
                f"needs: got {len(self.update)} numbers for update and {len(self.read)} for read, "
                "expected one of each per layer"
            )
        for number in (*self.update, *self.read):
            if isnan(number) or number < 0:
                raise ScheduleError(f"needs: got {number}, expected numbers of 0 or more")

    @classmethod
    def assumed(cls, layers: int, updating: Sequence[int] | None = None) -> Self:
        """What is taken where nothing was measured.

        Visual tokens are updated in the first quarter of the layers (in `updating`, counted from 1,
        where that is given), read in the first three quarters, and past the last of these not
        needed. Raises `ScheduleError` for a layer that the model does not have.

        >>> needs = LayerNeeds.assumed(4)
        >>> needs.update, needs.read
        ((1.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0, 0.0))
        """
        chosen = range(1, ceil(layers / 4) + 1) if updating is None else updating
        if not chosen or not all(1 <= layer <= layers for layer in chosen):
            raise ScheduleError(
                f"layers: got {list(chosen)}, expected layers from 1 to {layers}, at least one"
            )
        deepest = max(*chosen, ceil(3 * layers / 4), 1)
        numbers = range(1, layers + 1)
        return cls(
            update=tuple(1.0 if layer in chosen else _NOTHING for layer in numbers),
            read=tuple(1.0 if layer <= deepest else _NOTHING for layer in numbers),
        )

    @property
    def layers(self) -> int:
        """Of the model."""
        return len(self.update)

    def updated_up_to(self, layer: int) -> "LayerNeeds":
        """The same where visual tokens must be updated in all layers up to `layer`.

        >>> LayerNeeds((0.5, 0.0), (0.5, 0.1)).updated_up_to(1).update
        (inf, 0.0)
        """
        must = (inf,) * layer
        return replace(self, update=must + self.update[layer:], read=must + self.read[layer:])
