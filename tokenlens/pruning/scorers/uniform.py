"""Scorer "uniform": evenly spaced tokens; no attention is read."""

from functools import lru_cache

import torch
from torch import Tensor

from tokenlens.pruning.scoring import DirectScoring, Prompt, StageContext
from tokenlens.pruning.tokens import Counts, Tokens
from tokenlens.registry import SCORER_SUMMARIES
from tokenlens.schedule import Scorer


def uniform_scores(_: Prompt, tokens: Tokens, context: StageContext, __: Scorer) -> Tensor:
    """1 for evenly spaced candidates, 0 for the others: float64 [batch, width].

    Of n candidates, in sequence order, the k selected ones are those at floor((i + 1/2)·n/k).
    """
    slots = tokens.slots
    ordinal = (slots.visual.cumsum(1) - 1).clamp(min=0)  # [batch, width]
    return _evenly(slots.visuals, context.keeping, slots.index.device).gather(1, ordinal)


@lru_cache(maxsize=64)
def _evenly(visuals: Counts, keeping: Counts, device: torch.device) -> Tensor:
    """The scores of each sample's candidates, float64 [batch, most]; made once for equal counts."""
    with torch.inference_mode(mode=False):  # so that a later backward pass can use them too
        scores = torch.zeros(len(visuals), max(1, *visuals), dtype=torch.float64)
        for sample, (count, keep) in enumerate(zip(visuals, keeping, strict=True)):
            scores[sample, (2 * torch.arange(keep) + 1) * count // max(1, 2 * keep)] = 1
        return scores.to(device)


SCORER = DirectScoring(uniform_scores, sums=False, summary=SCORER_SUMMARIES["uniform"])
