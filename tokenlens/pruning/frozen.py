"""Frozen tokens: their hidden states stay fixed, and every layer makes keys and values of them.

The layer's own code makes them, up to the point where it passes keys and values to the cache: its
input norm, its projections, the norms of its keys and its rotary embedding run as the family
defines them. Its queries, most of the work, are left out. When the layer then runs on the live
tokens, its cache returns the keys and values of both, in sequence order, under the layer's own
mask.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from tokenlens.errors import PruningError
from tokenlens.models.structure import decoder_layers
from tokenlens.pruning.cache import Join
from tokenlens.pruning.layer_call import LayerCall
from tokenlens.pruning.projections import FUSED, without_queries
from tokenlens.pruning.tokens import Slots, Tokens, arrange


@dataclass(frozen=True, eq=False)
class Frozen:
    """Readable tokens beside the live ones, from one stage to the next.

    Attributes:
        tokens: the frozen tokens, with the hidden states they keep.
        slots: live and frozen tokens together, in sequence order.
        order: int64 [batch, width of `slots`], for each slot the index of its token in the
            concatenation of the live and the frozen tokens.
    """

    tokens: Tokens
    slots: Slots
    order: Tensor

    @classmethod
    def beside(cls, live: Tokens, frozen: Tokens) -> "Frozen":
        """`frozen` beside the tokens that go on."""
        nothing = live.hidden[..., :0], frozen.hidden[..., :0]  # [batch, width, 0]: slots only
        both = Tokens(nothing[0], live.slots).join(Tokens(nothing[1], frozen.slots))
        there = both.slots.present
        slots = both.take(there, both.slots.lengths, both.slots.visuals).slots
        return cls(frozen, slots, arrange(both.slots.index, there, slots.width))

    def to(self, device: torch.device) -> "Frozen":
        """The same on another device."""
        if self.order.device == device:
            return self
        return Frozen(self.tokens.to(device), self.slots.to(device), self.order.to(device))

    def among(self, live: Tensor, frozen: Tensor) -> Tensor:
        """Both in sequence order: keys or values [batch, heads, tokens, size]."""
        both = torch.cat([live, frozen], dim=2)  # [batch, heads, live + frozen, size]
        if len(self.order) == 1:
            return both.index_select(2, self.order[0])
        # [batch, heads, tokens, size]
        rows = self.order[:, None, :, None].expand(-1, both.shape[1], -1, both.shape[3])
        return both.gather(2, rows)


class Relay(Cache):
    """Cache that stores nothing: it passes a layer's keys and values on to `join`."""

    def __init__(self, join: Join) -> None:
        super().__init__(layers=[])
        self._join = join

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the keys and values to attend to."""
        return self._join(key_states, value_states)


class _MadeError(Exception):
    """Stops a layer once its keys and values are made."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        super().__init__()
        self.made = key, value


def keys_and_values(
    call: LayerCall, hidden: Tensor, places: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Keys and values [batch, heads, tokens, size] that a layer makes of `hidden`.

    `places` are the position arguments of those tokens. The layer's own forward pass must
    follow: where accelerate offloads weights, that is what sends back those fetched here.
    """
    given = {
        **call.arguments,
        "attention_mask": None,
        **places,
        "past_key_values": Relay(_made),
    }
    with without_queries(call.attention):
        try:
            call.place.layer.forward(hidden, **given)
        except _MadeError as error:
            return error.made
    raise PruningError(
        f"layer {call.number} did not hand its keys and values to the cache, so that tokens cannot "
        "be frozen before it; use disposal 'bypass' or 'drop'"
    )


def _made(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    raise _MadeError(key, value)


def refuse_unfreezable(model: PreTrainedModel) -> None:
    """Raise `PruningError` for a model in whose layers tokens cannot be frozen."""
    for number, layer in enumerate(decoder_layers(model), start=1):
        attention = layer.get_submodule("self_attn")
        if isinstance(getattr(attention, "q_proj", None), nn.Module):
            continue
        if type(getattr(attention, FUSED, None)) is not nn.Linear:
            raise PruningError(
                f"disposal 'freeze': the attention of decoder layer {number} "
                f"({type(attention).__name__}) has no `q_proj` and no linear `{FUSED}`, so its "
                "keys cannot be made without its queries; use disposal 'bypass' or 'drop'"
            )
