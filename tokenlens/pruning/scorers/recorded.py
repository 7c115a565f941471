"""Scorer "recorded": importance recorded at one layer of the unpruned model."""

import torch
from torch import Tensor

from tokenlens.errors import PruningError
from tokenlens.pruning.scoring import DirectScoring, Prompt, StageContext
from tokenlens.pruning.tokens import Tokens
from tokenlens.registry import SCORER_SUMMARIES
from tokenlens.schedule import Scorer


def recorded_scores(prompt: Prompt, tokens: Tokens, _: StageContext, scorer: Scorer) -> Tensor:
    """Importance of each candidate at layer `scorer.layer` of the unpruned model: [batch, width].

    The paper's capability profile prunes by it (SwiftVLM, arXiv 2602.03134, Fig. 4).
    """
    given, slots = prompt.recorded, tokens.slots
    if given is None or len(given) != len(slots.visuals) or scorer.layer is None:
        raise PruningError(
            f"scorer.query 'recorded' needs the importance of each of the {len(slots.visuals)} "
            f"samples, got {'none' if given is None else len(given)}; give "
            "tokenlens.prune(..., recorded=recording.importance) of a probe of the same inputs"
        )
    ordinal = prompt.visual.cumsum(1) - 1  # [batch, length], the number of each visual token
    scores = torch.zeros(slots.index.shape, dtype=torch.float32)
    for sample, importance_of in enumerate(given):
        if importance_of.shape[-1] != int(prompt.visual[sample].sum()):
            raise PruningError(
                f"recorded[{sample}] is of {importance_of.shape[-1]} visual tokens, the sample has "
                f"{int(prompt.visual[sample].sum())}; probe the same inputs"
            )
        candidates = slots.visual[sample].cpu()
        places = ordinal[sample][slots.index[sample][slots.visual[sample]]].cpu()
        scores[sample, candidates] = importance_of[scorer.layer - 1].float().cpu()[places]
    return scores.to(slots.index.device)


SCORER = DirectScoring(recorded_scores, summary=SCORER_SUMMARIES["recorded"])
