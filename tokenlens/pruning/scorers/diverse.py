"""Scorer "diverse": max-min distance between tokens, without reading attention (DivPrune)."""

import torch
from torch import Tensor

from tokenlens.pruning.attention_rows import accumulation_dtype
from tokenlens.pruning.scoring import (
    DirectScoring,
    Floats,
    Prompt,
    StageContext,
)
from tokenlens.pruning.tokens import Tokens, arrange
from tokenlens.registry import SCORER_SUMMARIES
from tokenlens.schedule import Scorer


def diverse_scores(_: Prompt, tokens: Tokens, context: StageContext, __: Scorer) -> Tensor:
    """Scores by the order in which candidates are picked: float64 [batch, width].

    Of k tokens to select, the first pick scores k and the last one 1; all others score 0.
    """
    slots = tokens.slots
    scores = torch.zeros(slots.index.shape, dtype=torch.float64, device=slots.index.device)
    order = arrange(slots.index, slots.visual, max(slots.visuals))  # [batch, candidates]
    for sample, keep in enumerate(context.keeping):
        places = order[sample, order.shape[1] - slots.visuals[sample] :]
        picks = places[pick_diverse(tokens.hidden[sample, places], keep)]
        scores[sample, picks] = torch.arange(keep, 0, -1, device=picks.device).double()
    return scores


@torch.no_grad()
def pick_diverse(features: Tensor, count: int) -> Tensor:
    """Pick greedily by max-min distance: int64 [count], in the order of picking.

    Distance is 1 - cosine. The first pick is the token whose nearest other token is farthest; each
    further pick is the token whose nearest picked token is farthest (DivPrune, arXiv 2503.02175,
    Algorithm 1). Ties go to the earlier token. Deviation: no token is picked twice; the published
    code does so where all remaining tokens are copies of picked ones.

    Args:
        features: floats [tokens, size].
        count: at most as many as there are tokens.

    >>> pick_diverse(torch.tensor([[1.0, 0], [1, 0], [0, 1], [-1, 0], [1, 0]]), 4).tolist()
    [2, 0, 3, 1]
    """
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=features.device)
    unit = torch.nn.functional.normalize(features.to(accumulation_dtype(features)), dim=-1)
    distances = 1 - unit @ unit.T  # [tokens, tokens]
    nearest = distances.clone().fill_diagonal_(torch.inf).amin(dim=0)
    picks: list[Tensor] = []
    for _ in range(count):
        pick = nearest.argmax()
        far = distances.index_select(0, pick[None])[0]  # [tokens]
        nearest = far if not picks else torch.minimum(nearest, far)
        picks.append(pick)
        nearest = nearest.index_fill(0, torch.stack(picks), -torch.inf)
    return torch.stack(picks)


def _compared(visual: Floats, _: Floats, hidden: int) -> Floats:
    """MACs of comparing every candidate with every other."""
    return visual**2 * hidden


SCORER = DirectScoring(
    diverse_scores, macs=_compared, sums=False, summary=SCORER_SUMMARIES["diverse"]
)
