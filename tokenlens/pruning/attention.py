"""Queries and keys of one layer, read from the model's own code, without code per family.

A listener observes the model's attention calls (`tokenlens.probing.attention`). It waits for one
layer at a time and takes its queries and keys (after their norms and rotary embedding). Then the
layer either continues unchanged or is stopped there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from tokenlens.errors import PruningError
from tokenlens.probing.attention_weights import scaling_of, unread_option


@dataclass(frozen=True)
class AttentionInputs:
    """Input of one layer's attention.

    `query` is [batch, heads, tokens, size], `key` [batch, kv heads, tokens, size].
    """

    query: Tensor
    key: Tensor
    scaling: float
    softcap: float | None


class Listener:
    """Observer of attention calls that records one call of one module."""

    def __init__(self) -> None:
        self._module: nn.Module | None = None
        self._hear: Callable[[AttentionInputs], None] | None = None
        self._halt = False

    def expect(
        self, module: nn.Module, hear: Callable[[AttentionInputs], None], *, halt: bool = False
    ) -> None:
        """Wait for the next attention call of `module`; with `halt`, its layer stops there."""
        self._module, self._hear, self._halt = module, hear, halt

    def forget(self) -> bool:
        """Stop waiting; return whether a call was still expected."""
        waiting = self._module is not None
        self._module = self._hear = None
        return waiting

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        _value: Tensor,
        _mask: Any,
        options: dict[str, Any],
    ) -> None:
        """Record the queries and keys of the expected call; ignore every other call."""
        if module is not self._module or self._hear is None:
            return
        hear = self._hear
        self.forget()
        unread = unread_option(options)
        if unread is not None:
            raise PruningError(
                f"attention with {unread} cannot be scored: its rows are no softmax over the "
                "tokens alone; use scorer.query 'random', 'uniform' or 'diverse', or a model "
                "without it"
            )
        scaling = scaling_of(query, options)
        with torch.no_grad():
            hear(AttentionInputs(query, key, scaling, options.get("softcap")))
        if self._halt:
            raise HaltError


class HaltError(Exception):
    """Stops a layer at its attention; `run_until_attention` catches it."""


def run_until_attention(layer: nn.Module, hidden: Tensor, **kwargs: Any) -> None:
    """Run `layer` on `hidden` up to its attention: no mask, no cache, no gradient.

    A listener must expect the layer's attention with `halt`. The layer's own forward pass must
    follow: where accelerate offloads weights, that is what sends back those fetched here.
    """
    kwargs = {name: value for name, value in kwargs.items() if not isinstance(value, Cache)}
    try:
        with torch.no_grad():
            layer.forward(hidden, **{**kwargs, "attention_mask": None, "use_cache": False})
    except HaltError:
        return
