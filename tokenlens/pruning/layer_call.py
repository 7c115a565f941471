"""One call of a decoder layer, in terms that hold for every family."""

import inspect
from typing import Any, NamedTuple, Self

from torch import Tensor, nn
from transformers.cache_utils import Cache


class Place(NamedTuple):
    """A decoder layer of a model.

    Attributes:
        number: counted from 1.
        layer: the module.
        attention: its self-attention.
        causal: whether a row sees no later key where the mask does not say.
    """

    number: int
    layer: nn.Module
    attention: nn.Module
    causal: bool

    @classmethod
    def of(cls, number: int, layer: nn.Module) -> Self:
        """The layer `number` (counted from 1) as it is now."""
        attention = layer.get_submodule("self_attn")
        return cls(number, layer, attention, bool(getattr(attention, "is_causal", True)))


class LayerCall(NamedTuple):
    """A decoder layer, and the keyword arguments it is called with.

    The arguments are the model's own, in full coordinates.
    """

    place: Place
    arguments: dict[str, Any]

    @classmethod
    def of(
        cls, place: Place, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple["LayerCall", Tensor]:
        """The call and its hidden states, passed by position or by keyword."""
        if len(args) > 1:
            names = list(inspect.signature(place.layer.forward).parameters)
            kwargs = {**dict(zip(names[1:], args[1:], strict=False)), **kwargs}
        if args:
            return cls(place, kwargs), args[0]
        rest = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        return cls(place, rest), kwargs["hidden_states"]

    @property
    def number(self) -> int:
        """The layer, counted from 1."""
        return self.place.number

    @property
    def attention(self) -> nn.Module:
        """The layer's self-attention."""
        return self.place.attention

    @property
    def mask(self) -> Tensor | None:
        """The layer's attention mask."""
        return self.arguments.get("attention_mask")

    @property
    def cache(self) -> Cache | None:
        """The model's cache."""
        return self.arguments.get("past_key_values")
