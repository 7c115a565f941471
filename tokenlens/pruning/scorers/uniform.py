"""Scorer "uniform": evenly spaced tokens; no attention is read."""

import torch
from torch import Tensor

from tokenlens.pruning.scoring import DirectScoring, Prompt, StageContext
from tokenlens.pruning.tokens import Tokens
from tokenlens.registry import SCORER_SUMMARIES
from tokenlens.schedule import Scorer


def uniform_scores(_: Prompt, tokens: Tokens, context: StageContext, __: Scorer) -> Tensor:
    """1 for evenly spaced candidates, 0 for the others: float64 [batch, width].

    Of n candidates, in sequence order, the k selected ones are those at floor((i + 1/2)·n/k).
    """
    slots = tokens.slots
    scores = torch.zeros(slots.index.shape, dtype=torch.float64)
    candidates = slots.visual.cpu()
    for sample, (count, keep) in enumerate(zip(slots.visuals, context.keeping, strict=True)):
        places = (2 * torch.arange(keep) + 1) * count // max(1, 2 * keep)
        scores[sample, candidates[sample].nonzero().flatten()[places]] = 1
    return scores.to(slots.index.device)


SCORER = DirectScoring(uniform_scores, sums=False, summary=SCORER_SUMMARIES["uniform"])
