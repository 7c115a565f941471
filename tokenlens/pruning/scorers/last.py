"""Scorer "last": the attention row of the last prompt token (FastV as coded, SwiftVLM)."""

import torch
from torch import Tensor

from tokenlens.pruning.scoring import Prompt, RowScoring
from tokenlens.registry import SCORER_SUMMARIES


def last_row(prompt: Prompt, _: Tensor) -> Tensor:
    """Rows to read: bool [batch, length]."""
    rows = torch.zeros_like(prompt.attended)
    rows[:, prompt.end - 1] = True
    return rows


SCORER = RowScoring(last_row, final=True, summary=SCORER_SUMMARIES["last"])
