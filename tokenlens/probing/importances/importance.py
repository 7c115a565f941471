"""The types of importances, and finding one by its name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tokenlens.errors import ProbeError
from tokenlens.models.structure import HoldsModel, unwrap
from tokenlens.probing.attention_call import AttentionCall
from tokenlens.registry import IMPORTANCES
from tokenlens.wording.printable import shown
from tokenlens.wording.suggest import one_of

Scale = Callable[[AttentionCall, int, Tensor], Tensor]
"""A function from an attention call, the index of a sample and the positions of its visual tokens
(int64 [n_visual]) to the factors of their attention: float32 [heads, n_visual]."""


@dataclass(frozen=True)
class Importance:
    """Base class of importances; each is a `RowImportance` or a `RunImportance`.

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


@dataclass(frozen=True, eq=False)
class PromptRun:
    """A forward pass on a prompt, as it can be run again.

    Attributes:
        source: the `VLM` or bare model that was given to the probe.
        model: the model.
        inputs: of its forward; without a cache.
        ids: int64 [batch, length], the padded prompt.
        attended: bool [batch, length], False for padding.
        positions: per sample int64 [n_visual], of its visual tokens.
    """

    source: HoldsModel | PreTrainedModel
    model: PreTrainedModel
    inputs: Mapping[str, Any]
    ids: Tensor
    attended: Tensor
    positions: Sequence[Tensor]

    @classmethod
    def of(
        cls,
        source: HoldsModel | PreTrainedModel,
        given: Mapping[str, Any],
        *,
        ids: Tensor,
        attended: Tensor,
        positions: Sequence[Tensor],
    ) -> Self:
        """From a forward's arguments."""
        inputs = {name: value for name, value in given.items() if name not in _NOT_OF_THE_PROMPT}
        mask = inputs.get("attention_mask")
        if not isinstance(mask, Tensor) or mask.ndim != 2:
            inputs["attention_mask"] = attended.to(torch.int64)
        return cls(source, unwrap(source), inputs, ids, attended, positions)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Run the model within, and leave no trace of it: some keep the prompt's positions."""
        kept = [
            (module, module.rope_deltas)
            for module in self.model.modules()
            if hasattr(module, "rope_deltas")
        ]
        try:
            yield
        finally:
            for module, deltas in kept:
                module.rope_deltas = deltas


_NOT_OF_THE_PROMPT = {
    "past_key_values",
    "use_cache",
    "cache_position",
    "labels",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "logits_to_keep",
}


@dataclass(frozen=True)
class RunImportance(Importance):
    """What takes more passes of the model than the one that is observed.

    Attributes:
        measure: a function from the prompt's run to the importance of each sample, float32 [layers,
            heads (1 where it is not `by_head`), n_visual]. It may change neither model nor inputs.
    """

    measure: Callable[[PromptRun], Sequence[Tensor]]


def importance_named(name: str) -> Importance:
    """The importance of that name. Raises `ProbeError` where there is none."""
    if not isinstance(name, str) or name not in IMPORTANCES:
        known = one_of(name, IMPORTANCES) if isinstance(name, str) else ", ".join(IMPORTANCES)
        raise ProbeError(f"importance: got {shown(name)}, expected {known}")
    found = IMPORTANCES[name]
    if not isinstance(found, Importance):
        raise ProbeError(f"importance {name!r} is a {type(found).__name__}, expected an Importance")
    return found
