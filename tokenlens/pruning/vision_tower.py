"""Reader of the vision tower: the attention that its patches receive, recorded while it runs."""

import inspect
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tokenlens.errors import PruningError
from tokenlens.models.adapters.towers import Tower
from tokenlens.probing.attention import is_observing
from tokenlens.probing.attention_weights import scaling_of
from tokenlens.pruning.attention import AttentionInputs
from tokenlens.pruning.attention_rows import Rows, accumulation_dtype, importance
from tokenlens.pruning.tower_reading import TowerReading
from tokenlens.registry import DISPOSALS, SCORERS
from tokenlens.schedule import Schedule


def reads_tower(schedule: Schedule) -> bool:
    """Whether a scorer or a disposal of a schedule reads the vision tower."""
    by_disposal = any(DISPOSALS[stage.disposal].tower for stage in schedule.stages)
    return by_disposal or any(SCORERS[scorer.query].tower for scorer in schedule.scorers)


class TowerReader:
    """Observer of a tower's attention; it holds the values of the tower's latest run."""

    def __init__(self, tower: Tower) -> None:
        self.tower = tower
        self._call: Mapping[str, Any] = {}
        self._views: list[Tensor] = []
        self._thread: int | None = None

    def begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the tower runs: store its arguments."""
        if not is_observing(self):  # in a thread or task outside the pruning context
            return
        self._views, self._thread = [], threading.get_ident()
        self._call = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments

    @torch.no_grad()
    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        _value: Tensor,
        mask: Any,
        options: dict[str, Any],
    ) -> None:
        """Read the layer's queries and keys [views, heads, patches, size]."""
        if module is not self.tower.attention or self._thread != threading.get_ident():
            return
        scaling = scaling_of(query, options)
        ends = options.get("cu_seq_lens_q")  # FlashAttention has the pictures in one sequence
        lengths = [query.shape[2]] if ends is None else ends.diff().tolist()
        for part, keys in zip(query.split(lengths, 2), key.split(lengths, 2), strict=True):
            self._views += list(self._read(AttentionInputs(part, keys, scaling, None), mask))

    def _read(self, inputs: AttentionInputs, mask: Tensor | None) -> Tensor:
        """Importance, MACs and key of every patch, side by side: [views, patches, 2 + size]."""
        views, heads, tokens, size = inputs.query.shape
        first = self.tower.class_tokens
        order = torch.arange(1 if first else tokens, device=inputs.query.device)
        order = order.expand(views, -1)
        everything = torch.ones(views, tokens, dtype=torch.bool, device=order.device)
        rows = Rows(order, None, (order.shape[1],) * views)

        def visible(some: Tensor) -> Tensor:
            if mask is None:
                return everything[:, None, None].expand(-1, 1, some.shape[1], -1)
            # [views, heads or 1, rows, patches]
            places = some[:, None, :, None].expand(-1, mask.shape[1], -1, tokens)
            return mask.expand(views, -1, tokens, -1).gather(2, places)

        received = importance(inputs, rows, everything, visible)
        keys = inputs.key.to(accumulation_dtype(inputs.key)).mean(1)  # [views, patches, size]
        macs = torch.full_like(received, order.shape[1] * tokens * heads * size)
        macs /= tokens - first  # shared by the view's patches
        return torch.cat([received[..., None], macs[..., None], keys], -1)[:, first:]

    def take(self, visual: Tensor) -> TowerReading:
        """The reading for the visual tokens (bool [batch, length]) of a padded input.

        Where beam search makes several samples of one, each gets the same reading.
        """
        if self._thread not in (None, threading.get_ident()):
            raise PruningError(
                "another thread ran the vision tower meanwhile; a pruning context serves one at a "
                "time"
            )
        counts = visual.sum(1).tolist()
        views, self._views = self._views, []
        if not any(counts):
            nothing = torch.zeros(visual.shape, device=visual.device)
            return TowerReading(nothing, nothing[..., None], np.zeros(len(counts)))
        tokens = self.tower.tokens(views, self._call) if views else torch.empty(0, 2)
        copies = sum(counts) // max(1, len(tokens))
        if copies * len(tokens) != sum(counts) or sum(counts[::copies]) != len(tokens):
            raise PruningError(
                f"the vision tower was seen to make {len(tokens)} visual tokens of the "
                f"{sum(counts)} in the prompt, so they cannot be scored by it; give the pictures "
                "themselves with the prompt, or use scorer.query 'diverse' or 'uniform'"
            )
        joined = sum(map(len, views)) / len(tokens)
        parts = tokens.to(visual.device).split(counts[::copies])
        # [batch, length, 2 + size]
        placed = tokens.new_zeros(*visual.shape, tokens.shape[1], device=visual.device)
        placed[visual] = torch.cat([part for part in parts for _ in range(copies)])
        macs = placed[..., 1].sum(1, dtype=torch.float64).cpu().numpy() * joined
        return TowerReading(placed[..., 0], placed[..., 2:], macs)
