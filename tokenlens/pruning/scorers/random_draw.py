"""Scorer "random": a seeded random number for every token; no attention is read."""

import zlib

import torch
from torch import Tensor

from tokenlens.pruning.scoring import DirectScoring, Prompt, StageContext
from tokenlens.pruning.tokens import Tokens
from tokenlens.registry import SCORER_SUMMARIES
from tokenlens.schedule import Scorer


def random_scores(prompt: Prompt, tokens: Tokens, context: StageContext, scorer: Scorer) -> Tensor:
    """A random number for every candidate: float64 [batch, width].

    It depends on the seed, the stage and the sample's own token ids, not on batch or padding.
    """
    slots = tokens.slots
    seed = scorer.seed or 0
    scores = torch.zeros(slots.index.shape, dtype=torch.float64)
    candidates = slots.visual.cpu()
    for sample, count in enumerate(slots.visuals):
        words = prompt.ids[sample][prompt.attended[sample]].cpu().numpy().tobytes()
        key = f"{seed} {context.stage} {zlib.crc32(words)}".encode()
        generator = torch.Generator().manual_seed(zlib.crc32(key))
        drawn = torch.rand(count, generator=generator, dtype=torch.float64)
        scores[sample, candidates[sample]] = drawn
    return scores.to(slots.index.device)


SCORER = DirectScoring(random_scores, summary=SCORER_SUMMARIES["random"])
