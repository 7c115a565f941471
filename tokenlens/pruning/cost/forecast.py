"""Forecast of a schedule's cost from token counts alone: no weights, no inputs, nothing is run.

The figures equal those that `Trace.cost` and `Trace.tokens_per_layer` report for a real run. Three
things depend on the content of the picture and of the prompt; they are assumed as follows:

- a keep by mass is counted at the number expected of exponentially distributed importance
  (`token_counts.keep_count`); `token_counts.at_most` gives the stages of the worst case;
- a scorer that picks its query rows by the prompt's content (SparseVLM's raters) is counted with
  the largest number of rows it can pick;
- where a sliding window cuts through the picture, the remaining tokens are assumed to be evenly
  spaced, and `keys_exact` is False.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedConfig

from tokenlens.models.prompt_lengths import PromptLengths
from tokenlens.pruning.cost.decoder_cost import (
    Widths,
    comparison_macs,
    decoder_parts,
    projection_macs,
    windows,
)
from tokenlens.pruning.refusals import refuse_unscored
from tokenlens.pruning.scoring import Prompt, RowScoring
from tokenlens.registry import DISPOSALS, SCORERS, ScoringEntry
from tokenlens.schedule import Scorer, Stage
from tokenlens.schedule.token_counts import StageCounts, stage_counts, stage_readable, stage_tokens


class Macs(NamedTuple):
    """Multiply-accumulates of one prefill, part by part."""

    projections: float
    attention: float
    mlp: float
    scoring: float = 0.0
    merging: float = 0.0

    @property
    def total(self) -> float:
        """All parts."""
        return sum(self)


@dataclass(frozen=True)
class Forecast:
    """The cost of one prompt under a schedule.

    Attributes:
        tokens_per_layer: visual tokens entering each layer, merged ones counted.
        readable_per_layer: the same with the frozen tokens.
        keys_per_layer: keys that each layer's cache holds after the prefill.
        keys_exact: whether `keys_per_layer` is exact; see the module.
        macs: multiply-accumulates, by part.
        kv_bytes: bytes of the key-value cache.
    """

    tokens_per_layer: tuple[int, ...]
    readable_per_layer: tuple[int, ...]
    keys_per_layer: tuple[int, ...]
    keys_exact: bool
    macs: Macs
    kv_bytes: int

    @property
    def average(self) -> float:
        """Visual tokens entering a layer, mean over all layers."""
        return sum(self.tokens_per_layer) / len(self.tokens_per_layer)


def forecast(
    stages: Sequence[Stage],
    scorer: Scorer,
    config: PreTrainedConfig,
    prompt: PromptLengths,
    *,
    element_size: int = 2,
) -> Forecast:
    """The cost of `prompt` under `stages`; without any, that of the unpruned model.

    Args:
        stages: in order of depth.
        scorer: how importance is read at every stage without a scorer of its own.
        config: configuration of the text decoder.
        prompt: the tokens of one prompt.
        element_size: bytes of one number in the key-value cache.

    Raises:
        PruningError: a stage that the scorer cannot score, or a prompt without the text tokens that
            the scorer needs.
    """
    layers = config.num_hidden_layers
    tokens = stage_tokens(stages, prompt.visual, layers)
    counts = stage_counts(stages, prompt.visual)
    readable = stage_readable(stages, prompt.visual, layers)
    keys, exact = _keys(config, readable, prompt)
    parts = decoder_parts(config, np.add(tokens, prompt.text), np.add(readable, prompt.text))
    return Forecast(
        tokens_per_layer=tuple(tokens),
        readable_per_layer=tuple(readable),
        keys_per_layer=tuple(keys),
        keys_exact=exact,
        macs=Macs(
            float(parts.projections),
            float(parts.attention),
            float(parts.mlp),
            scoring=_scoring_macs(stages, counts, tokens, scorer, config, prompt),
            merging=_merging_macs(stages, counts, config.hidden_size),
        ),
        kv_bytes=sum(keys) * 2 * Widths.of(config).key * element_size,
    )


def _keys(
    config: PreTrainedConfig, tokens: Sequence[int], prompt: PromptLengths
) -> tuple[list[int], bool]:
    """Keys each layer stores, and whether they are exact: a window keeps only the last tokens."""
    found, exact = [], True
    for window, alive in zip(windows(config), tokens, strict=True):
        reach = sum(prompt) if window is None else min(window - 1, sum(prompt))
        after = min(prompt.after, reach)
        visual = min(prompt.visual, reach - after)
        before = min(prompt.before, reach - after - visual)
        exact &= visual in (0, prompt.visual) or alive == prompt.visual
        share = visual / prompt.visual if prompt.visual else 0.0
        found.append(before + round(alive * share) + after)
    return found, exact


def _scoring_macs(
    stages: Sequence[Stage],
    counts: Sequence[StageCounts],
    tokens: Sequence[int],
    scorer: Scorer,
    config: PreTrainedConfig,
    prompt: PromptLengths,
) -> float:
    total, rows_of = 0.0, dict[str, Callable[[int], float]]()
    for place, (stage, count) in enumerate(zip(stages, counts, strict=True)):
        own = stage.scorer or scorer
        refuse_unscored(f"stages[{place}]", stage, own)
        scoring = SCORERS[own.query]
        if not isinstance(scoring, RowScoring):
            total += _beside_macs(scoring, count.candidates, config, prompt)
            continue
        if own.query not in rows_of:
            rows_of[own.query] = _row_counter(scoring, prompt)
            total += _beside_macs(scoring, prompt.visual, config, prompt)
        after = stage.when == "after"
        visual = tokens[stage.score_layer - 1] if after else count.candidates
        total += _reading_macs(stage, own, rows_of[own.query](visual), visual + prompt.text, config)
    return total


def _beside_macs(
    scoring: ScoringEntry, candidates: int, config: PreTrainedConfig, prompt: PromptLengths
) -> float:
    """MACs of a scorer beside reading attention."""
    if scoring.macs is None:
        return 0.0
    counts = np.asarray(candidates, np.float64), np.asarray(prompt.after, np.float64)
    return float(scoring.macs(*counts, config.hidden_size))


def _reading_macs(
    stage: Stage, scorer: Scorer, rows: float, keys: int, config: PreTrainedConfig
) -> float:
    """MACs of the products of a layer's scoring rows with its keys."""
    total = float(comparison_macs(config, rows, keys))
    if stage.when == "before" or not scorer.rotary:
        total += float(projection_macs(config, keys))
    if scorer.decay is not None:
        total += rows * keys * 2 * _rotated(config)
    return total


def _rotated(config: PreTrainedConfig) -> int:
    """Numbers of a head that the rotary embedding turns."""
    rope = getattr(config, "rope_parameters", None) or {}
    share = rope.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", 1.0)
    return int(Widths.of(config).query // config.num_attention_heads * share)


def _row_counter(scoring: RowScoring, prompt: PromptLengths) -> Callable[[int], float]:
    """A function from the visual tokens at a layer to the number of rows read there.

    The scorer itself is called, on a prompt of this shape in which all tokens are equal.
    """
    length = sum(prompt)
    visual = torch.zeros(1, length, dtype=torch.bool)
    visual[:, prompt.before : prompt.before + prompt.visual] = True
    ids, attended = torch.zeros(1, length, dtype=torch.int64), torch.ones_like(visual)
    chosen = scoring.rows(Prompt(ids, visual, attended, length), torch.zeros(1, length, 1))
    of_text = int((chosen & ~visual).sum())
    of_visual = int((chosen & visual).sum()) / max(1, prompt.visual)
    return lambda alive: of_text + of_visual * alive


def _merging_macs(stages: Sequence[Stage], counts: Sequence[StageCounts], hidden: int) -> float:
    total = 0.0
    for stage, count in zip(stages, counts, strict=True):
        if count.rest and count.merged:
            macs = DISPOSALS[stage.disposal].macs
            total += float(macs(np.float64(count.rest), np.float64(count.merged), hidden))
    return total
