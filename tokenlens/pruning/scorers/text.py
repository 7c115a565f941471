"""Scorer "text": the attention rows of the text tokens after the last visual token."""

from torch import Tensor

from tokenlens.errors import PruningError
from tokenlens.pruning.scoring import Prompt, RowScoring
from tokenlens.registry import SCORER_SUMMARIES


def text_rows(prompt: Prompt, _: Tensor) -> Tensor:
    """Rows to read: bool [batch, length]."""
    rows = prompt.text_after()
    without = ((~rows).all(1) & prompt.visual.any(1)).nonzero().flatten().tolist()
    if without:
        raise PruningError(
            f"sample {without[0]}: there is no text after its last visual token for scorer.query "
            "'text' or 'raters'; put the question after the picture, or use 'last' or 'all'"
        )
    return rows


SCORER = RowScoring(text_rows, summary=SCORER_SUMMARIES["text"])
