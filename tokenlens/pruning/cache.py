"""Cache layers that store few keys and report the full sequence length.

The model continues to build its masks, positions and offsets for the full sequence. Each layer here
stores the sequence position of each of its keys, so that those masks can be read for them.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

from tokenlens.errors import PruningError
from tokenlens.pruning.tokens import Slots

Join = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Of the keys and values [batch, heads, tokens, size] of a prompt's live tokens those to store."""


@dataclass
class Lease:
    """Whether the pruning context that filled a cache is still open."""

    open: bool = True


class PrunedLayer(DynamicLayer):
    """The keys and values of one layer of a pruned prefill, and of what came after it.

    Attributes:
        index: int64 [batch, stored], the prompt's stored keys in the padded input.
        present: bool [batch, stored], False for fillers and padding; None where there are none.
        whole: whether every token of the prompt is stored.
        last_number: int64 [batch], the rotary number of the prompt's last token, at position
            `last_index`; None while positions are the model's own.
        full_length: tokens the sequence has in full coordinates.
        later_from: position of the first token stored after the prompt's.
        window_from: keys before this position have left the sliding window and are deleted.
    """

    def __init__(
        self,
        lease: Lease,
        slots: Slots,
        length: int,
        window: int | None,
        join: Join | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # transformers leaves it unannotated
        self.lease = lease
        self._join = join
        self.window = window
        self.index = slots.index
        self.present = slots.present if slots.ragged else None
        self.whole = slots.whole
        self.last_number = slots.last_number
        self.last_index = length - 1
        self.prompt_length = length
        self.full_length = 0
        self.later_from = length
        self.record_past = False
        self.window_from = 0
        self._latest: list[int] = []

    def activate_past_recording(self) -> None:
        """Keep the keys that have left the sliding window, so that `crop` can go back to them."""
        self.record_past = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store new keys and values; return all stored ones."""
        if not self.lease.open:
            raise PruningError(
                "this cache was filled by tokenlens.prune(...) and its context was left; "
                "decode inside the `with` block, or run the prompt anew without pruning"
            )
        prefill = self.full_length == 0
        if prefill and self._join is not None:
            key_states, value_states = self._join(key_states, value_states)
            self._join = None
        self.full_length += self.prompt_length if prefill else key_states.shape[-2]
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        if self.window is not None and not self.record_past:
            if prefill:
                real = self.index if self.present is None else self.index.where(self.present, -1)
                self._latest = real.amax(0).tolist()
            self._leave_behind(self.full_length - self.window + 1)
        return keys, values

    def _leave_behind(self, first: int) -> None:
        """Delete the keys before position `first`, which no later token of any sample sees.

        `_latest`, the last position in each column of the prompt, is on the host, so that no
        decoding step waits for the device.
        """
        gone = bisect_left(self._latest, first)
        later = max(0, first - self.later_from) if gone == len(self._latest) else 0
        if gone + later == 0 or self.keys is None or self.values is None:
            return
        # [batch, heads, stored, size] → [batch, heads, stored - gone - later, size]
        self.keys = self.keys[:, :, gone + later :]
        self.values = self.values[:, :, gone + later :]
        self._forget_slots(gone)
        self.later_from += later
        self.window_from = first

    def _forget_slots(self, first: int, last: int | None = None) -> None:
        self.index = self.index[:, first:last]  # [batch, stored] → [batch, last - first]
        self.present = None if self.present is None else self.present[:, first:last]
        self.whole = self.whole and first == 0
        self._latest = self._latest[first:last]

    def get_seq_length(self) -> int:
        """Tokens the sequence has, the pruned ones included."""
        return self.full_length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of a mask over the whole sequence."""
        return self.full_length + query_length, 0

    def next_numbers(self, last: Tensor, count: int) -> Tensor:
        """Rotary numbers of the next `count` tokens, int64 [batch, count].

        `last` is that of the prompt's last token, `last_number`.
        """
        first = self.full_length - self.last_index
        steps = torch.arange(first, first + count, device=last.device)
        return last[:, None] + steps  # [batch, 1] + [count] → [batch, count]

    def reset(self) -> None:
        """Delete everything; the next forward pass is a prefill."""
        super().reset()
        self.full_length = 0

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last tokens, `-tokens_to_remove` of them; pruned ones cannot be among them."""
        if tokens_to_remove >= 0 or self.full_length == 0:
            super().crop(tokens_to_remove)
            return
        remaining = self.full_length + tokens_to_remove
        if self.window is not None and self.window_from > remaining - self.window + 1:
            raise PruningError(
                f"cannot crop the cache to {remaining} tokens: a sliding window has left keys "
                "behind that would be seen again; call cache.activate_past_recording() before the "
                "prompt, or run the shorter prompt anew"
            )
        into_prompt = self.prompt_length - remaining
        if into_prompt > 0:
            columns = self.index.shape[1]
            tail = self.index[:, columns - min(into_prompt, columns) :]  # [batch, ≤ into_prompt]
            expected = torch.arange(remaining, self.prompt_length, device=tail.device)
            there = tail.shape[1] == into_prompt and torch.equal(tail, expected.expand_as(tail))
            if not there:
                raise PruningError(
                    f"cannot crop the cache to {remaining} tokens: keys of the prompt that would "
                    "be seen again were pruned; crop less, or run the shorter prompt anew"
                )
            self._forget_slots(0, columns - into_prompt)
            self.prompt_length = self.later_from = remaining
        super().crop(tokens_to_remove)
        self.full_length = remaining

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Reorder the batch for beam search."""
        if self.full_length > 0:
            super().reorder_cache(beam_idx)
            self._map(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every sample `repeats` times."""
        if self.full_length > 0:
            super().batch_repeat_interleave(repeats)
            self._map(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the samples `indices`."""
        if self.full_length > 0:
            super().batch_select_indices(indices)
            self._map(lambda tensor: tensor[indices])

    def _map(self, move: Any) -> None:
        self.index = move(self.index)
        self.present = None if self.present is None else move(self.present)
        self.last_number = None if self.last_number is None else move(self.last_number)


def check_cache(cache: Any) -> None:
    """Refuse every cache whose layers cannot be replaced by pruned ones."""
    if cache is None:
        return
    layers = getattr(cache, "layers", None)
    known = (DynamicLayer, DynamicSlidingWindowLayer, PrunedLayer)
    if (
        type(cache) is not DynamicCache
        or cache.offloading
        or not isinstance(layers, list)
        or any(type(layer) not in known for layer in layers)
    ):
        raise PruningError(
            f"the cache is a {_describe(cache)}, expected a plain DynamicCache; leave "
            "`cache_implementation` and `past_key_values` out, or pass DynamicCache(config=…)"
        )


def filled_here(cache: Cache | None, lease: Lease) -> TypeGuard[Cache]:
    """Whether `cache` was filled by a prefill of the context that holds `lease`.

    Raises `PruningError` for a cache that was filled anywhere else.
    """
    if cache is None or cache.get_seq_length() == 0:
        return False
    if any(
        not isinstance(layer, PrunedLayer) or layer.lease is not lease for layer in cache.layers
    ):
        raise PruningError(
            "the cache was filled outside of this pruning context; "
            "run the prompt inside the same `with tokenlens.prune(...)` block"
        )
    return True


def install(cache: Cache, number: int, layer: PrunedLayer) -> None:
    """Put `layer` where the cache of decoder layer `number` (counted from 1) is."""
    if len(cache.layers) < number:
        cache.layers.append(layer)
        return
    layer.record_past = getattr(cache.layers[number - 1], "record_past", False)
    cache.layers[number - 1] = layer


def stored_layer(cache: Cache | None, number: int) -> PrunedLayer:
    """The pruned layer that `install` put into the cache for decoder layer `number`."""
    layer = cache.layers[number - 1] if cache is not None else None
    if not isinstance(layer, PrunedLayer):
        raise PruningError(
            f"decoder layer {number} was given another cache than the model was called with; "
            "run the prompt anew with an empty cache"
        )
    return layer


def window_of(cache: Cache, number: int) -> int | None:
    """The sliding window of the cache of decoder layer `number` (counted from 1), or None."""
    if len(cache.layers) < number:
        return None
    layer = cache.layers[number - 1]
    if isinstance(layer, PrunedLayer):
        return layer.window
    return getattr(layer, "sliding_window", None)


def _describe(cache: Any) -> str:
    if getattr(cache, "is_compileable", False):
        return f"static or compileable {type(cache).__name__}"
    if getattr(cache, "offloading", False):
        return f"{type(cache).__name__} with offloading"
    return type(cache).__name__
