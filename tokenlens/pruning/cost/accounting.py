"""Cost account of one prefill: tokens in every layer, and the MACs of scoring and merging.

While the model runs, only what happens is noted; figures are computed when they are asked for.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial

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
    group_product_macs,
    projection_macs,
    unread_macs,
)
from tokenlens.pruning.tokens import Counts, Slots

Macs = Callable[[Floats, Floats, int], Floats]


class CostAccount:
    """What one prefill did, noted layer by layer, and its cost per sample.

    Args:
        config: configuration of the text decoder.
        windows: the sliding window of each of its layers, as `decoder_cost.windows` gives them.
        whole: the slots of the padded input.
        element_size: bytes of one number in the key-value cache.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        windows: Sequence[int | None],
        whole: Slots,
        element_size: int,
    ) -> None:
        self._config = config
        self._windows = windows
        self._element_size = element_size
        self._whole = whole
        self._entered: list[tuple[Slots, Slots]] = []
        self._scoring: list[Callable[[], Floats]] = []
        self._merging: list[Callable[[], Floats]] = []
        self._spared: list[Callable[[], Floats]] = []

    @property
    def layers(self) -> int:
        """Layers entered so far."""
        return len(self._entered)

    def enter(self, slots: Slots, readable: Slots) -> None:
        """Count the next layer: it runs on `slots`, and its queries attend to `readable`."""
        self._entered.append((slots, readable))

    def compared(self, rows: ArrayLike, slots: Slots) -> None:
        """Count the scoring of a layer: `rows` queries per sample times all its keys."""
        self._scoring.append(partial(comparison_macs, self._config, rows, slots.lengths))

    def weighed(self, rows: ArrayLike, slots: Slots, size: int) -> None:
        """Count a second product of those queries and keys, over `size` numbers each."""
        self._scoring.append(partial(_products, rows, slots.lengths, size))

    def projected(self, slots: Slots, queries: Counts | None) -> None:
        """Count the projections of `slots` to queries, keys and values, made only for scoring.

        Of those, the engine computes all keys, as many `queries` and no values; where they are
        None, it computes everything.
        """
        self._scoring.append(partial(projection_macs, self._config, slots.lengths))
        if queries is not None:
            self._spared.append(partial(unread_macs, self._config, slots.lengths, queries))

    def scored(self, macs: Macs, candidates: Counts, text: Callable[[], Counts]) -> None:
        """Count a scorer's own MACs for `candidates` and the `text` tokens after them."""
        self._scoring.append(lambda: self._counted(macs, candidates, text()))

    def tower_read(self, macs: Floats) -> None:
        """Count the reading of the vision tower: `macs` [samples]."""
        self._scoring.append(lambda: macs)

    def grouped(self, macs: Macs, rest: Counts, merged: Counts, *, added: bool) -> None:
        """Count the merging of `rest` tokens into `merged` ones.

        `added` says whether their means are made by adding, not by a product with the groups.
        """
        self._merging.append(partial(self._counted, macs, rest, merged))
        if added:
            self._spared.append(partial(self._counted, group_product_macs, rest, merged))

    def _counted(self, macs: Macs, first: Counts, second: Counts) -> Floats:
        one, other = (np.asarray(counts, dtype=np.float64) for counts in (first, second))
        return macs(one, other, self._config.hidden_size)

    @cached_property
    def tokens(self) -> Tensor:
        """Visual tokens entering each layer: int64 [samples, layers]."""
        return _by_sample([slots.visuals for slots, _ in self._entered])

    @cached_property
    def readable(self) -> Tensor:
        """Visual tokens that can be attended to in each layer: int64 [samples, layers]."""
        return _by_sample([readable.visuals for _, readable in self._entered])

    @cached_property
    def cost(self) -> Cost:
        """The whole cost, with that of the unpruned model beside it."""
        layers, length = self.layers, self._whole.width
        lengths = [slots.lengths for slots, _ in self._entered]
        readable = [readable for _, readable in self._entered]
        stored = [
            slots.reachable(length, window)
            for slots, window in zip(readable, self._windows, strict=True)
        ]
        whole = [self._whole.reachable(length, window) for window in self._windows]
        unpruned = decoder_cost(
            self._config,
            np.asarray([self._whole.lengths] * layers).T,
            element_size=self._element_size,
            stored=np.asarray(whole).T,
        )
        return decoder_cost(
            self._config,
            np.asarray(lengths).T,
            element_size=self._element_size,
            readable=np.asarray([slots.lengths for slots in readable]).T,
            stored=np.asarray(stored).T,
            scoring_macs=self._sum(self._scoring),
            merging_macs=self._sum(self._merging),
            spared_macs=self._sum(self._spared),
            unpruned=unpruned,
        )

    def _sum(self, counts: Sequence[Callable[[], Floats]]) -> Floats:
        return sum((count() for count in counts), np.zeros(len(self._whole.lengths)))


def _products(rows: ArrayLike, keys: ArrayLike, size: int) -> Floats:
    """MACs of comparing `rows` with `keys` over `size` numbers each."""
    return np.asarray(rows, dtype=np.float64) * np.asarray(keys, dtype=np.float64) * size


def _by_sample(counts: Sequence[Counts]) -> Tensor:
    """Counts of each layer, as int64 [samples, layers]."""
    return torch.tensor(counts, dtype=torch.int64).T.contiguous()
