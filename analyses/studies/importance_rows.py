"""What the study `importances` measures of each sample, in rows that survive a killed run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from tokenlens.evaluation.occlusion import ForcedAnswers, occlusion_map, windows
from tokenlens.evaluation.running.shared_features import shared_features
from tokenlens.measures.arrays import top_count, top_ranks
from tokenlens.measures.correlation import sample_rank_correlation
from tokenlens.measures.overlap import region_scores
from tokenlens.models.batch import Batch
from tokenlens.models.fingerprint import model_identity
from tokenlens.probing.recording import probe
from tokenlens.probing.sample_rows import sample_row, several_row
from tokenlens.probing.stored_rows import stored_region
from tokenlens.progress import progress
from tokenlens.storage.shards import ShardReader, ShardStore

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.samples.dataset import Samples
    from tokenlens.samples.sample import Sample

KIND = "importances"
READ = ("attention", "value-weighted", "gradient")
"""Importances that have a map of every layer for the price of one or two passes."""
SHARES = (0.05, 0.1, 0.2, 0.4)
"""Of the visual tokens, what is left out, or left."""
MEAN = 0
"""The number that stands for the mean of all layers' maps."""
_COLUMNS: dict[str, pa.DataType] = {
    "id": pa.string(),
    "task": pa.string(),
    "picture": pa.string(),
    "answer_tokens": pa.int32(),
    "whole": pa.float64(),
    "recall": pa.list_(pa.float64()),
    "correlation": pa.list_(pa.float64()),
    "deletion": pa.list_(pa.float64()),
    "insertion": pa.list_(pa.float64()),
}
"""Lists are by map; `correlation` is [maps · maps], `deletion` and `insertion` [maps · shares]."""


@dataclass(frozen=True)
class Maps:
    """The maps that are compared.

    Attributes:
        layers: whose maps are compared one by one, from 1; `MEAN` is the mean of all layers'.
    """

    layers: tuple[int, ...]

    @property
    def names(self) -> list[tuple[str, int]]:
        """Importance and layer of each; occlusion's is from layer 1 on, and chance has none."""
        read = [(name, layer) for name in READ for layer in self.layers]
        return [*read, ("occlusion", 1), ("random", MEAN)]

    def of(self, vlm: VLM, batch: Batch, forced: ForcedAnswers, first: int) -> list[np.ndarray]:
        """Per sample float64 [maps, n_visual]; `first` is the number of the first sample."""
        by_name = {name: _recorded(vlm, batch, name) for name in READ}
        occluded = occlusion_map(forced, [windows(layout) for layout in batch.layouts], 1)
        return [
            np.stack(
                [
                    *(_of_layer(by_name[name][place], layer) for name, layer in self.names[:-2]),
                    occluded[place].double().numpy(),
                    np.random.default_rng(first + place).random(len(occluded[place])),
                ]
            )
            for place in range(len(batch.samples))
        ]


def _recorded(vlm: VLM, batch: Batch, name: str) -> list[Tensor]:
    with probe(vlm, importance=name) as recording, torch.inference_mode():
        vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
    return recording.importance


def _of_layer(importance: Tensor, layer: int) -> np.ndarray:
    chosen = importance.double().mean(dim=0) if layer == MEAN else importance[layer - 1].double()
    found: np.ndarray = chosen.numpy()
    return found


def measure(
    vlm: VLM, samples: Samples, layers: Sequence[int], out: Path, *, batch_size: int
) -> pd.DataFrame:
    """A row per sample; an interrupted run continues under `out`.

    `recall` is the share of the region's tokens in a map's top fifth, NaN without a region.
    `correlation` is Spearman's between maps. `deletion` and `insertion` are probabilities of the
    unpruned model's own answer, the geometric mean over its tokens, with a map's top shares gone
    from the first layer on, or left alone there; `whole` is that with all visual tokens.
    """
    maps = Maps(tuple(layers))
    identity = {
        "model": {**model_identity(vlm), "architecture": vlm.architecture, "layers": vlm.layers},
        "data": {
            "source": samples.source,
            "split": samples.split,
            "hash": samples.hash,
            "samples": len(samples),
        },
        "options": {"layers": list(layers), "shares": list(SHARES)},
    }
    store = ShardStore.open(out, KIND, identity, pa.schema(_COLUMNS), shard_rows=4 * batch_size)
    with (
        store,
        shared_features(vlm.model),
        progress(KIND, len(samples), store.count, True) as advance,
    ):

        def rows_of(batches: Iterator[range]) -> Iterator[Iterator[dict[str, Any]]]:
            for places in batches:
                yield _rows(vlm, maps, samples[places.start : places.stop], places.start)

        for _ in store.fill(len(samples), batch_size, rows_of):
            advance()
        if not store.complete:
            store.finish()
    return ShardReader(out, KIND).table()


def _rows(vlm: VLM, maps: Maps, samples: Sequence[Sample], first: int) -> Iterator[dict[str, Any]]:
    batch = Batch.of(vlm, samples)
    forced = ForcedAnswers.of(vlm, batch.inputs)
    found = maps.of(vlm, batch, forced, first)
    tests = {"deletion": _tested(forced, found, False), "insertion": _tested(forced, found, True)}
    whole = forced.log_probabilities()
    for place, sample in enumerate(batch.samples):
        of_it = sample, batch.sizes[place], batch.layouts[place]
        region = stored_region({**sample_row(*of_it), **several_row(*of_it)})
        nothing = np.full(len(found[place]), np.nan)
        yield {
            "id": sample.id,
            "task": sample.task,
            "picture": str(sample.image),
            "answer_tokens": len(forced.answers[place]),
            "whole": float(whole[place].mean().exp()),
            "recall": region_scores(found[place], region) if region.any() else nothing,
            "correlation": sample_rank_correlation(found[place]).ravel(),
            **{name: values[place].ravel() for name, values in tests.items()},
        }


def _tested(
    forced: ForcedAnswers, found: Sequence[np.ndarray], insertion: bool
) -> list[np.ndarray]:
    """Probability of each answer with every map's top shares gone, or left: [maps, shares]."""
    ranks = [top_ranks(maps) for maps in found]
    results = [np.empty((len(maps), len(SHARES))) for maps in found]
    for number in range(len(found[0])):
        for column, share in enumerate(SHARES):
            top = [rank[number] < top_count(share, rank.shape[1]) for rank in ranks]
            gone = [torch.from_numpy(~one if insertion else one) for one in top]
            for place, left in enumerate(forced.without(gone)):
                results[place][number, column] = float(left.mean().exp())
    return results
