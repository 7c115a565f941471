"""Cost of a prefill, computed from the model's configuration.

All figures are multiply-accumulates (MACs), as every published "FLOPs" of this field is, and bytes
of the key-value cache. Per layer of n tokens, after SwiftVLM §3.5 (arXiv 2602.03134)::

    n·d·(q + 2·kv + q)  +  2·n²·q  +  3·n·d·m

Beside f frozen tokens, of which a layer makes keys and values only, it is 2·n·(n + f)·q, and
f·d·2·kv more.

with q and kv the widths of all query and all key heads. Deviations: the paper's 4nd² holds for full
multi-head attention only, so the projections follow the configuration's heads (grouped-query
models have fewer keys). As published, causal attention counts the full n², and the MLP is gated.
Embeddings, norms, the head and the vision tower are not counted; padding and fillers neither.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from transformers import PreTrainedConfig
from transformers.cache_utils import get_layer_types_and_kwargs

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cost:
    """The cost of one prefill, every figure float64 [samples].

    Attributes:
        prefill_macs: MACs of the decoder layers.
        scoring_macs: MACs spent on scoring visual tokens, beside the layers' own.
        merging_macs: MACs spent on grouping, merging and aligning visual tokens.
        kv_bytes: bytes of the key-value cache after the prefill.
        spared_macs: MACs that the figures above count as published and the engine does not compute:
            queries and values that scoring does not read, and products with the groups of merged
            tokens.
    """

    prefill_macs: Floats
    scoring_macs: Floats
    merging_macs: Floats
    kv_bytes: Floats
    spared_macs: Floats
    _unpruned: "Cost | None" = field(default=None, repr=False)

    @property
    def total_macs(self) -> Floats:
        """Prefill, scoring and merging together, float64 [samples]."""
        return self.prefill_macs + self.scoring_macs + self.merging_macs

    @property
    def unpruned(self) -> "Cost":
        """The cost of the same samples in the unpruned model."""
        return self if self._unpruned is None else self._unpruned


@dataclass(frozen=True)
class Widths:
    """The widths of a decoder layer that its cost depends on, in numbers per token."""

    hidden: int
    query: int
    key: int
    ffn: int

    @classmethod
    def of(cls, config: PreTrainedConfig) -> "Widths":
        """Read from a text decoder's configuration."""
        heads = config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        head = getattr(config, "head_dim", None) or config.hidden_size // heads
        return cls(config.hidden_size, heads * head, kv_heads * head, config.intermediate_size)


def decoder_macs(
    config: PreTrainedConfig, lengths: ArrayLike, readable: ArrayLike | None = None
) -> Floats:
    """MACs of the decoder layers that run on `lengths` tokens.

    Args:
        config: configuration of the text decoder.
        lengths: tokens entering each layer, [..., layers].
        readable: the same with the frozen tokens; by default there are none.

    Returns:
        float64 [...].
    """
    parts = decoder_parts(config, lengths, readable)
    return parts.projections + parts.attention + parts.mlp


class DecoderParts(NamedTuple):
    """Where a decoder's MACs go: projections of all layers, attention, MLP; float64 [...]."""

    projections: Floats
    attention: Floats
    mlp: Floats


def decoder_parts(
    config: PreTrainedConfig, lengths: ArrayLike, readable: ArrayLike | None = None
) -> DecoderParts:
    """The MACs of `decoder_macs`, part by part."""
    widths = Widths.of(config)
    n = np.asarray(lengths, dtype=np.float64)
    keys = n if readable is None else np.asarray(readable, dtype=np.float64)
    projections = projection_macs(config, n) + n * widths.query * widths.hidden
    projections = projections + (keys - n) * widths.hidden * 2 * widths.key
    attention = 2 * n * keys * widths.query
    mlp = 3 * n * widths.hidden * widths.ffn
    return DecoderParts(*(part.sum(axis=-1) for part in (projections, attention, mlp)))


def projection_macs(config: PreTrainedConfig, tokens: ArrayLike) -> Floats:
    """MACs of one layer's query, key and value projections of `tokens` tokens."""
    widths = Widths.of(config)
    per_token = widths.hidden * (widths.query + 2 * widths.key)
    return np.asarray(tokens, dtype=np.float64) * per_token


def unread_macs(config: PreTrainedConfig, tokens: ArrayLike, queries: ArrayLike) -> Floats:
    """The part of `projection_macs` for values, and for all queries but so many."""
    widths, n = Widths.of(config), np.asarray(tokens, dtype=np.float64)
    others = n - np.asarray(queries, dtype=np.float64)
    return (n * widths.key + others * widths.query) * widths.hidden


def comparison_macs(config: PreTrainedConfig, rows: ArrayLike, keys: ArrayLike) -> Floats:
    """MACs of comparing `rows` queries with `keys` keys in every head of one layer."""
    pairs = np.asarray(rows, dtype=np.float64) * np.asarray(keys, dtype=np.float64)
    return pairs * Widths.of(config).query


def grouping_macs(rest: Floats, merged: Floats, hidden: int) -> Floats:
    """MACs of merging `rest` tokens into `merged` ones and of aligning them: 2RZd + Rd (§3.5)."""
    return np.where(merged > 0, (2 * merged + 1) * rest * hidden, 0.0)


def group_product_macs(rest: Floats, merged: Floats, hidden: int) -> Floats:
    """The part of `grouping_macs` for means as a product of states and groups: RZd."""
    return rest * merged * hidden


def windows(config: PreTrainedConfig) -> list[int | None]:
    """The sliding window of each decoder layer in tokens, None where a layer sees everything."""
    _, settings = get_layer_types_and_kwargs(config)
    return [layer.get("sliding_window") for layer in settings]


def decoder_cost(
    config: PreTrainedConfig,
    lengths: ArrayLike,
    *,
    element_size: int,
    readable: ArrayLike | None = None,
    stored: ArrayLike | None = None,
    scoring_macs: ArrayLike = 0.0,
    merging_macs: ArrayLike = 0.0,
    spared_macs: ArrayLike = 0.0,
    unpruned: Cost | None = None,
) -> Cost:
    """The cost of a prefill from the configuration alone.

    Args:
        config: configuration of the text decoder.
        lengths: tokens (text and visual) entering each layer, [samples, layers].
        element_size: bytes of one number in the key-value cache.
        readable: the same with the frozen tokens; by default there are none.
        stored: keys each layer's cache holds, [samples, layers]; by default the readable tokens
            that the layer's sliding window can still reach.
        scoring_macs: MACs of scoring, beside the layers' own, [samples].
        merging_macs: MACs of merging, [samples].
        spared_macs: those of both that are not computed, [samples].
        unpruned: cost of the same samples in the unpruned model.
    """
    tokens = np.asarray(lengths, dtype=np.float64)
    if stored is None:
        keys = tokens if readable is None else np.asarray(readable, dtype=np.float64)
        stored = np.minimum(keys, [np.inf if w is None else w - 1 for w in windows(config)])
    scoring, merging, spared = (
        np.broadcast_to(np.asarray(macs, np.float64), (len(tokens),)).copy()
        for macs in (scoring_macs, merging_macs, spared_macs)
    )
    key_bytes = 2 * Widths.of(config).key * element_size
    return Cost(
        prefill_macs=decoder_macs(config, tokens, readable),
        scoring_macs=scoring,
        merging_macs=merging,
        kv_bytes=np.asarray(stored, dtype=np.float64).sum(axis=-1) * key_bytes,
        spared_macs=spared,
        _unpruned=unpruned,
    )
