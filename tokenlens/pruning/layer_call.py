"""One call of a decoder layer, in terms that hold for every family."""

import inspect
from typing import Any, NamedTuple, cast

from torch import Tensor, nn
from transformers.cache_utils import Cache


class LayerCall(NamedTuple):
    """A decoder layer, its number (counted from 1), and the keyword arguments it is called with.

    The arguments are the model's own, in full coordinates.
    """

    number: int
    layer: nn.Module
    arguments: dict[str, Any]

    @classmethod
    def of(
        cls, number: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple["LayerCall", Tensor]:
        """The call and its hidden states, passed by position or by keyword."""
        if len(args) > 1:
            names = list(inspect.signature(layer.forward).parameters)
            kwargs = {**dict(zip(names[1:], args[1:], strict=False)), **kwargs}
        if args:
            return cls(number, layer, kwargs), args[0]
        rest = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        return cls(number, layer, rest), kwargs["hidden_states"]

    @property
    def attention(self) -> nn.Module:
        """The layer's self-attention."""
        return cast(nn.Module, self.layer.self_attn)

    @property
    def causal(self) -> bool:
        """Whether a row sees no later key where the mask does not say."""
        return getattr(self.attention, "is_causal", True)

    @property
    def mask(self) -> Tensor | None:
        """The layer's attention mask."""
        return self.arguments.get("attention_mask")

    @property
    def cache(self) -> Cache | None:
        """The model's cache."""
        return self.arguments.get("past_key_values")
