"""Cost account of one prefill: tokens in every layer, and the MACs of scoring and merging."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from transformers import PreTrainedConfig

from tokenlens.pruning.cost.decoder_cost import (
    Cost,
    Floats,
    comparison_macs,
    decoder_cost,
    projection_macs,
    windows,
)
from tokenlens.pruning.tokens import Counts, Slots

Macs = Callable[[Floats, Floats, int], Floats]


class CostAccount:
    """Counts per sample, filled in layer by layer."""

    def __init__(self, config: PreTrainedConfig, whole: Slots, element_size: int) -> None:
        self._config = config
        self._windows = windows(config)
        self._element_size = element_size
        self._whole = whole
        self._lengths: list[Counts] = []
        self._visuals: list[Counts] = []
        self._readable: list[Counts] = []
        self._readable_visuals: list[Counts] = []
        self._stored: list[Counts] = []
        self._scoring = np.zeros(len(whole.lengths))
        self._merging = np.zeros(len(whole.lengths))

    @property
    def layers(self) -> int:
        """Layers entered so far."""
        return len(self._lengths)

    def enter(self, slots: Slots, readable: Slots) -> None:
        """Count the next layer: it runs on `slots`, and its queries attend to `readable`."""
        window = self._windows[self.layers]
        self._lengths.append(slots.lengths)
        self._visuals.append(slots.visuals)
        self._readable.append(readable.lengths)
        self._readable_visuals.append(readable.visuals)
        self._stored.append(readable.reachable(self._whole.width, window))

    def compared(self, rows: ArrayLike, slots: Slots) -> None:
        """Count the scoring of a layer: `rows` queries per sample times all its keys."""
        self._scoring += comparison_macs(self._config, rows, slots.lengths)

    def weighed(self, rows: ArrayLike, slots: Slots, size: int) -> None:
        """Count a second product of those queries and keys, over `size` numbers each."""
        pairs = np.asarray(rows, dtype=np.float64) * np.asarray(slots.lengths, dtype=np.float64)
        self._scoring += pairs * size

    def projected(self, slots: Slots) -> None:
        """Count the projections of `slots` to queries, keys and values, made only for scoring."""
        self._scoring += projection_macs(self._config, slots.lengths)

    def scored(self, macs: Macs, candidates: Counts, text: Counts) -> None:
        """Count a scorer's own MACs for `candidates` and the `text` tokens after them."""
        self._scoring += self._counted(macs, candidates, text)

    def tower_read(self, macs: Floats) -> None:
        """Count the reading of the vision tower: `macs` [samples]."""
        self._scoring += macs

    def grouped(self, macs: Macs, rest: Counts, merged: Counts) -> None:
        """Count the merging of `rest` tokens into `merged` ones."""
        self._merging += self._counted(macs, rest, merged)

    def _counted(self, macs: Macs, first: Counts, second: Counts) -> Floats:
        one, other = (np.asarray(counts, dtype=np.float64) for counts in (first, second))
        return macs(one, other, self._config.hidden_size)

    def tokens(self) -> Tensor:
        """Visual tokens entering each layer: int64 [samples, layers]."""
        return torch.tensor(self._visuals, dtype=torch.int64).T.contiguous()

    def readable(self) -> Tensor:
        """Visual tokens that can be attended to in each layer: int64 [samples, layers]."""
        return torch.tensor(self._readable_visuals, dtype=torch.int64).T.contiguous()

    def cost(self) -> Cost:
        """The whole cost, with that of the unpruned model beside it."""
        layers = self.layers
        stored = [self._whole.reachable(self._whole.width, window) for window in self._windows]
        unpruned = decoder_cost(
            self._config,
            np.asarray([self._whole.lengths] * layers).T,
            element_size=self._element_size,
            stored=np.asarray(stored).T,
        )
        return decoder_cost(
            self._config,
            np.asarray(self._lengths).T,
            element_size=self._element_size,
            readable=np.asarray(self._readable).T,
            stored=np.asarray(self._stored).T,
            scoring_macs=self._scoring,
            merging_macs=self._merging,
            unpruned=unpruned,
        )
