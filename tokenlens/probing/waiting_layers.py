"""The prompt's rows of several layers, made together once some have run.

A small model's time is in calls, not in products: one softmax of many layers costs as much as that
of one. Queries and keys wait for it only where they are few.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tokenlens.probing.attention_call import AttentionCall, ask_alike
from tokenlens.probing.attention_weights import attention_weights

MOST_WAITING = 2**18
"""Numbers in the queries and keys that wait at once."""


class WaitingLayers:
    """Layers whose row of the same one token of every sample is still to be computed.

    Args:
        place: of that token in the sequence.
        positions: of every sample the visual tokens, int64 [n_visual], as many in each.
        per_head: keep the heads apart.
    """

    def __init__(self, place: int, positions: Sequence[Tensor], *, per_head: bool) -> None:
        self._place, self._positions, self._per_head = place, positions, per_head
        self._calls: dict[int, AttentionCall] = {}
        self._size = 0
        self._kind: tuple[object, ...] = ()  # what those that wait have in common

    @classmethod
    def of(
        cls, places: Sequence[Sequence[int]], positions: Sequence[Tensor], *, per_head: bool
    ) -> "WaitingLayers | None":
        """None where samples ask for other places, or for other numbers of visual tokens."""
        if not ask_alike(places) or len({len(visual) for visual in positions}) != 1:
            return None
        return cls(places[0][0], positions, per_head=per_head)

    def __contains__(self, layer: int) -> bool:
        return layer in self._calls

    def take(self, layer: int, call: AttentionCall) -> dict[int, list[Tensor]] | None:
        """Let a layer wait.

        Returns:
            The rows of those for which there is no place any more; None where the layer itself
            cannot wait, because it has too many keys or a mask.
        """
        size = call.query.numel() + call.key.numel()
        if 2 * size > MOST_WAITING or not call.sees_all(self._place):
            return None
        kind = call.query.shape, call.key.shape, call.key.dtype, call.key.device, call.formula
        done = {}
        if self._size + size > MOST_WAITING or kind != self._kind:
            done = self.finish()
        self._kind = kind
        self._calls[layer] = call
        self._size += size
        return done

    def finish(self) -> dict[int, list[Tensor]]:
        """The rows of all that wait: by layer, as `AttentionCall.rows_of_all` gives them."""
        calls, self._calls, self._size = self._calls, {}, 0
        if not calls:
            return {}
        first = next(iter(calls.values()))
        row = self._place - first.cached
        # [layers, batch, heads, 1, size] and [layers, batch, key_value_heads, keys, size]
        query = torch.stack([call.query[:, :, row : row + 1] for call in calls.values()]).float()
        key = torch.stack([call.key for call in calls.values()]).float()
        weights = attention_weights(query, key, None, **first.formula)
        if not self._per_head:
            weights = weights.mean(dim=2, keepdim=True)
        visual = torch.stack(list(self._positions)).to(weights.device)[None, :, None, None]
        # [layers, batch, heads or 1, 1, n_visual]
        found = weights.gather(-1, visual.expand(*weights.shape[:-1], -1))
        rows, batch = found.flatten(0, 1).unbind(), found.shape[1]
        return {layer: list(rows[i * batch : (i + 1) * batch]) for i, layer in enumerate(calls)}
