"""Answers are not made of logits that are no numbers."""

import torch
from torch import Tensor
from transformers import LogitsProcessor

from tokenlens.errors import ModelError


class FiniteLogits(LogitsProcessor):
    """Passes logits on as they are; raises `ModelError` where they hold NaN, or nothing finite.

    Greedy decoding takes the first token of logits that are NaN, and says nothing. Tokens that are
    held back have the logit -inf, which is meant.
    """

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        """Take `scores`, [batch, vocabulary], of the next tokens."""
        highest = scores.amax(dim=-1)  # NaN where any logit is
        if not bool(torch.isfinite(highest).all()):
            sample = int((~torch.isfinite(highest)).nonzero()[0])
            raise ModelError(
                f"the model's output for sample {sample} of a batch, counted from 0, is not a "
                "number: weights or inputs are damaged, or numbers overflowed; check the "
                "checkpoint, or use --dtype bfloat16 or float32"
            )
        return scores
