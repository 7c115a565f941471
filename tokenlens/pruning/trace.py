"""Trace of a pruned prefill: candidates and selected tokens of each stage, and the cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from tokenlens.errors import PruningError
from tokenlens.pruning.cost.accounting import CostAccount
from tokenlens.pruning.cost.decoder_cost import Cost
from tokenlens.pruning.tokens import Slots
from tokenlens.registry import drawing

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class StageTrace:
    """One stage of the latest prefill. Lists have one CPU tensor per sample.

    Positions refer to the padded input and ascend; a merged token has its seed's position.
    """

    _slots: Slots = field(repr=False)
    _scores: Tensor = field(repr=False)
    _kept: Tensor = field(repr=False)
    _merged: Slots | None = field(repr=False)

    @cached_property
    def candidates(self) -> list[Tensor]:
        """Positions of the visual tokens that competed, int64 [candidates]."""
        return _split(self._slots.index, self._slots.visual)

    @cached_property
    def scores(self) -> list[Tensor]:
        """Their importance, float32 [candidates]."""
        return [scores.float() for scores in _split(self._scores, self._slots.visual)]

    @cached_property
    def selected(self) -> list[Tensor]:
        """Positions of the selected tokens, int64 [selected]."""
        return _split(self._slots.index, self._kept)

    @cached_property
    def merged(self) -> list[Tensor]:
        """Positions of the merged tokens that replace the rest, int64 [merged]."""
        if self._merged is None:
            return [torch.empty(0, dtype=torch.int64) for _ in self._slots.lengths]
        return _split(self._merged.index, self._merged.present)


@dataclass
class Trace:
    """The latest prefill of a pruning context; reading it before any raises `PruningError`.

    In beam search every beam is a sample.
    """

    _stages: tuple[StageTrace, ...] | None = field(default=None, repr=False)
    _account: CostAccount | None = field(default=None, repr=False)

    @property
    def stages(self) -> tuple[StageTrace, ...]:
        """One for each stage of the schedule."""
        return self._there(self._stages)

    @property
    def tokens_per_layer(self) -> Tensor:
        """Visual tokens entering each layer, merged ones counted: int64 [samples, layers].

        The layer updates these; frozen tokens, which it only reads, are in `readable_per_layer`.
        """
        return self._there(self._account).tokens

    @property
    def readable_per_layer(self) -> Tensor:
        """Visual tokens that can be attended to in each layer: int64 [samples, layers].

        These are the tokens that enter the layer and the frozen ones.
        """
        return self._there(self._account).readable

    @property
    def cost(self) -> Cost:
        """Cost of the prefill, counted when it is first read.

        `cost.unpruned` is that of the unpruned model.
        """
        return self._there(self._account).cost

    def to_dataframe(self) -> "pd.DataFrame":
        """One line for every visual token at every stage.

        Columns: sample (from 0), stage (from 1), visual (from 0), position (in the padded input),
        fate ("kept", "brought back", "set aside", "place of a merged token" or "gone"), score (its
        importance there; not-a-number where it did not compete).
        """
        frame: pd.DataFrame = drawing("trace frame")(self)
        return frame

    def plot(
        self,
        *,
        stage: int = 1,
        sample: int = 0,
        image: int = 0,
        picture: Any = None,
        layout: Any = None,
        ax: Any = None,
    ) -> Any:
        """Draw what a stage did with every visual token, and return its Matplotlib figure.

        Args:
            stage: counted from 1.
            sample: index of the sample.
            image: which picture of the sample, counted from 0, where `layout` tells them apart.
            picture: to draw on, a PIL picture or array [height, width, 3].
            layout: where the visual tokens lie (`vlm.layout(inputs)[sample]`); None to draw them
                row by row.
            ax: Matplotlib axes to draw on; None for a new figure.
        """
        return drawing("trace map")(
            self,
            stage=stage,
            sample=sample,
            image=image,
            picture=picture,
            layout=layout,
            ax=ax,
        )

    def _repr_html_(self) -> str:
        html: str = drawing("trace page")(self)
        return html

    def fill(self, stages: Sequence[StageTrace], account: CostAccount) -> None:
        """Replace the content with a finished prefill."""
        self._stages, self._account = tuple(stages), account

    @staticmethod
    def _there(value: T | None) -> T:
        if value is None:
            raise PruningError(
                "nothing was pruned yet: run the model that was given to tokenlens.prune(...) "
                "inside the `with` block, then read the trace"
            )
        return value


def _split(values: Tensor, chosen: Tensor) -> list[Tensor]:
    values, chosen = values.detach().cpu(), chosen.cpu()
    return [row[mask].clone() for row, mask in zip(values, chosen, strict=True)]
