"""Scorer "vision": attention inside the vision tower, independent of the question (VisionZip)."""

from torch import Tensor

from tokenlens.errors import PruningError
from tokenlens.pruning.scoring import DirectScoring, Prompt, StageContext
from tokenlens.pruning.tokens import Tokens
from tokenlens.registry import SCORER_SUMMARIES
from tokenlens.schedule import Scorer


def vision_scores(prompt: Prompt, tokens: Tokens, _: StageContext, __: Scorer) -> Tensor:
    """Attention of the tower's class token, or of all patches, to each candidate: [batch, width].

    A token made of several patches gets their mean. The engine counts the MACs of reading the
    tower; see `vision_tower`.
    """
    if prompt.tower_reading is None:
        raise PruningError(
            "scorer.query 'vision': nothing was read from the vision tower; choose another scorer"
        )
    index = tokens.slots.index
    # [batch, length] to [batch, width]
    return prompt.tower_reading.importance.to(index.device).gather(1, index)


SCORER = DirectScoring(vision_scores, tower=True, summary=SCORER_SUMMARIES["vision"])
