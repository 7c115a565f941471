"""Forward pass that continues a pruned prefill: decoding, or a further turn."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache

from tokenlens.pruning import masks
from tokenlens.pruning.cache import PrunedLayer, stored_layer
from tokenlens.pruning.layer_call import LayerCall
from tokenlens.pruning.positions import Numbering
from tokenlens.pruning.session_context import SessionContext


class Continuation:
    """New tokens attend to the keys each layer has stored, and to themselves."""

    whole = False
    """Keys that pruning took are missing, so that a row is of other tokens than the model's."""

    def __init__(self, context: SessionContext, cache: Cache) -> None:
        self._context, self._cache = context, cache
        self._plain = all(
            isinstance(layer, PrunedLayer) and layer.present is None and layer.last_number is None
            for layer in cache.layers
        )
        numberings: dict[int, Numbering] = {  # layers between two stages have the same
            id(layer.last_number): partial(layer.next_numbers, layer.last_number)
            for layer in cache.layers
            if isinstance(layer, PrunedLayer) and layer.last_number is not None
        }
        self._place_of = {last: place for place, last in enumerate(numberings)}
        context.rotary.numberings = tuple(numberings.values())

    def enter_decoder(self, arguments: dict[str, Any]) -> None:
        """Before the decoder: nothing to do."""

    def leaves_alone(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a layer may run on the keyword arguments it is given.

        It may where no stored key is a filler, positions are the model's own, and its new tokens
        see all keys there are.
        """
        return (
            self._plain
            and arguments.get("attention_mask") is None
            and arguments.get("past_key_values") is self._cache
        )

    def enter(self, call: LayerCall, hidden: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Before a layer: give it a mask for its stored keys, and the rotary numbers after them."""
        stored, arguments = stored_layer(call.cache, call.number), dict(call.arguments)
        queries = hidden.shape[1]
        if not stored.whole:
            arguments["attention_mask"] = masks.extend(
                call.mask,
                stored.index,
                stored.present,
                later_from=stored.later_from,
                keys=stored.full_length + queries,
                queries=queries,
                flat=self._context.flat,
            )
        if stored.last_number is not None:
            arguments["position_embeddings"] = self._context.rotary.further(
                call.arguments.get("position_embeddings"), self._place_of[id(stored.last_number)]
            )
        return hidden, arguments

    def leave(self, _: int, hidden: Tensor) -> Tensor:
        """After a layer: nothing to do."""
        return hidden

    def finish(self) -> None:
        """After the last layer: nothing to do."""
