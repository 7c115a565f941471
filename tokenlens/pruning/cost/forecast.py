"""What a schedule will cost, from counts alone: no weights, no inputs, nothing run.

The figures are those that `Trace.cost` and `Trace.tokens_per_layer` report of a real run. Three
things depend on what is in the picture and in the prompt, and are taken as follows:

- a keep by mass is counted at the number expected of exponentially distributed importance
  (`token_counts.keep_count`); `token_counts.at_most` gives the stages of the worst case;
- a scorer that picks its query rows by what the prompt says (SparseVLM's raters) is counted at the
  most rows it can pick;
- where a sliding window cuts through the picture, the tokens that are left are taken to lie evenly,
  and `keys_exact` is False.
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
from tokenlens.pruning.scoring import Prompt, RowScoring, Scoring
from tokenlens.registry import DISPOSALS, SCORERS
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
        readable_per_layer: those, and the frozen ones.
        keys_per_layer: keys that each layer's cache holds after the prefill.
        keys_exact: whether these are exact; see the module.
        macs: by part.
        kv_bytes: of the key-value cache.
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
        PruningError: a stage that the scorer cannot score, or text that it needs and `prompt` has
            not.
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
    """Keys each layer stores, and whether that is certain: a window keeps the last tokens only."""
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
    scoring: Scoring, candidates: int, config: PreTrainedConfig, prompt: PromptLengths
) -> float:
    """What a scorer takes beside reading attention."""
    if scoring.macs is None:
        return 0.0
    counts = np.float64(candidates), np.float64(prompt.after)
    return float(scoring.macs(*counts, config.hidden_size))


def _reading_macs(
    stage: Stage, scorer: Scorer, rows: float, keys: int, config: PreTrainedConfig
) -> float:
    """What comparing so many rows of a layer with so many keys takes."""
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
    """How many rows are read at a layer with so many visual tokens.

    Asked of the scorer itself, with a prompt of this shape in which all tokens are alike.
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
