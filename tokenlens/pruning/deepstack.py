"""Visual features that a model adds to its first layers' outputs (DeepStack, arXiv 2406.04334).

The decoder receives them as `deepstack_visual_embeds`, one [visual tokens of the batch, hidden]
per layer, for the positions marked in `visual_pos_masks`. It would add them with full-length masks,
so the engine removes them from the call and adds them to the tokens that are left.
"""

from typing import Any

import torch
from torch import Tensor

from tokenlens.errors import PruningError
from tokenlens.pruning.tokens import Slots
from tokenlens.schedule import Stage


class Deepstack:
    """The features of one prefill; empty for a model that has none."""

    def __init__(self) -> None:
        self._features: list[Tensor] = []
        self._rows: Tensor | None = None

    def take_over(self, arguments: dict[str, Any]) -> None:
        """Take the features out of the decoder's keyword arguments, in place."""
        features, places = (
            arguments.get("deepstack_visual_embeds"),
            arguments.get("visual_pos_masks"),
        )
        if features is None or places is None:
            return
        arguments["deepstack_visual_embeds"] = None
        self._features = list(features)
        # [batch, tokens] → [batch * tokens] → [batch, tokens]: index of the feature row
        self._rows = (places.flatten().cumsum(0) - 1).view_as(places)
        self._places = places

    def check(self, stages: tuple[Stage, ...], layers: int) -> None:
        """Refuse to merge tokens that still have features of their own to come.

        `layers` is of how many layers the configuration says that they have features.
        """
        if len(self._features) > layers:
            raise PruningError(
                f"the model adds visual features to {len(self._features)} layers, its "
                f"configuration (deepstack_visual_indexes) names {layers}; mend the configuration"
            )
        for stage in stages:
            if stage.disposal != "drop" and stage.first_layer <= len(self._features):
                raise PruningError(
                    f"a {stage.disposal!r} stage before layer {stage.first_layer}: the model adds "
                    f"visual features up to the output of layer {len(self._features)}; expected "
                    f"one from 'after' layer {len(self._features)} on, or disposal 'drop'"
                )

    def add(self, number: int, hidden: Tensor, slots: Slots) -> Tensor:
        """The output of layer `number` (counted from 1) with its features added."""
        if number > len(self._features) or self._rows is None:
            return hidden
        index = slots.index.to(hidden.device)  # int64 [batch, slots]
        features = self._features[number - 1].to(hidden.device, hidden.dtype)
        if not len(features):
            return hidden
        # [batch, tokens] → [batch, slots]
        places = self._places.to(hidden.device).gather(1, index) & slots.present.to(hidden.device)
        rows = self._rows.to(hidden.device).gather(1, index).clamp(min=0)
        added = features.index_select(0, rows.flatten()).view_as(hidden)  # [batch, slots, hidden]
        return torch.where(places[:, :, None], hidden + added, hidden)
