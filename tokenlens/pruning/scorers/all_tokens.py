"""Scorer "all": mean over the attention rows of all tokens (FastV as published)."""

from torch import Tensor

from tokenlens.pruning.scoring import Prompt, RowScoring
from tokenlens.registry import SCORER_SUMMARIES


def all_rows(prompt: Prompt, _: Tensor) -> Tensor:
    """Rows to read: bool [batch, length]."""
    return prompt.within(prompt.attended.clone())


SCORER = RowScoring(all_rows, summary=SCORER_SUMMARIES["all"])
