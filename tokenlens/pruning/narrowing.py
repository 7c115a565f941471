"""A layer's own arguments, narrowed to the tokens that are left."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tokenlens.pruning import masks, positions
from tokenlens.pruning.frozen import Frozen
from tokenlens.pruning.layer_call import LayerCall
from tokenlens.pruning.session_context import SessionContext
from tokenlens.pruning.tokens import Slots

_NARROWED = ("attention_mask", "position_ids", "position_embeddings")
_POSITIONS = ("position_embeddings", "position_ids")


class Narrowing:
    """The arguments of the layers between two stages, which run on the same slots.

    Layers that are given the same mask and positions share what is made of them.

    Args:
        context: of the forward pass.
        slots: the tokens that the layers run on.
        frozen: the tokens that they read beside those.
    """

    def __init__(self, context: SessionContext, slots: Slots, frozen: Frozen | None = None) -> None:
        self._context, self._slots, self._frozen = context, slots, frozen
        self._unchanged = slots.whole and slots.number is None
        self._made: dict[tuple[int, ...], tuple[Any, dict[str, Any]]] = {}
        self._of_frozen: dict[tuple[int, ...], tuple[Any, dict[str, Any]]] = {}

    def arguments(self, call: LayerCall) -> Mapping[str, Any]:
        """The layer's arguments for the slots."""
        if self._unchanged:
            return call.arguments
        causal, given = call.place.causal, tuple(map(call.arguments.get, _NARROWED))
        key = (causal, *map(id, given))
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = given, self._narrowed(*given, causal=causal)
        return {**call.arguments, **made[1]}

    def _narrowed(
        self,
        mask: Tensor | None,
        ids: Tensor | None,
        embeddings: positions.Embeddings,
        *,
        causal: bool,
    ) -> dict[str, Any]:
        slots = self._slots
        found = {"position_embeddings": positions_of(self._context, embeddings, slots)}
        if not slots.whole:
            found["attention_mask"] = self._mask(mask, causal)
            found["position_ids"] = None if self._context.flat else ids_of(ids, slots)
        return found

    def _mask(self, mask: Tensor | None, causal: bool) -> Tensor | None:
        if self._frozen is not None:
            return masks.narrow_among(mask, self._slots, self._frozen.slots, causal=causal)
        return masks.narrow(mask, self._slots, causal=causal, flat=self._context.flat)

    def of_frozen(self, call: LayerCall, frozen: Slots) -> Mapping[str, Any]:
        """The positions of the frozen tokens, as arguments of the layer."""
        embeddings, ids = given = tuple(map(call.arguments.get, _POSITIONS))
        key = tuple(map(id, given))
        made = self._of_frozen.get(key)
        if made is None:
            found = positions_of(self._context, embeddings, frozen), ids_of(ids, frozen)
            made = self._of_frozen[key] = given, dict(zip(_POSITIONS, found, strict=True))
        return made[1]


def positions_of(
    context: SessionContext, embeddings: positions.Embeddings, slots: Slots
) -> positions.Embeddings:
    """The position embeddings of `slots`, from those of the padded input."""
    if slots.number is not None:
        return context.rotary.renumber(embeddings, slots.number)
    return embeddings if slots.whole else positions.gather(embeddings, slots.index)


def ids_of(ids: Tensor | None, slots: Slots) -> Tensor | None:
    """The layer's position ids of `slots`: some decoders scale queries by them."""
    return ids if slots.whole else positions.gather_ids(ids, slots.index)
