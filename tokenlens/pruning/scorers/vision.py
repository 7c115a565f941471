"""What the vision tower itself attends to, whatever is asked (VisionZip)."""

from torch import Tensor

from tokenlens.errors import PruningError
from tokenlens.pruning.scoring import DirectScoring, Prompt, StageContext
from tokenlens.pruning.tokens import Tokens
from tokenlens.registry import SCORER_SUMMARIES
from tokenlens.schedule import Scorer


def vision_scores(prompt: Prompt, tokens: Tokens, _: StageContext, __: Scorer) -> Tensor:
    """Attention of the tower's class token, or of all patches, to each candidate: [batch, width].

    A token made of several patches has the mean of theirs. What reading the tower took is counted
    by the engine; see `tower_reader`.
    """
    if prompt.tower_reading is None:
        raise PruningError(
            "scorer.query 'vision': nothing was read from the vision tower; choose another scorer"
        )
    index = tokens.slots.index
    return prompt.tower_reading.importance.to(index.device).gather(1, index)


SCORER = DirectScoring(vision_scores, tower=True, summary=SCORER_SUMMARIES["vision"])
