"""Check of the logits for NaN during generation."""

import torch
from torch import Tensor
from transformers import LogitsProcessor

from tokenlens.errors import ModelError


class FiniteLogits(LogitsProcessor):
    """Returns logits unchanged; raises `ModelError` where any is NaN or none is finite.

    Greedy decoding silently takes the first token where logits are NaN. The logit -inf of excluded
    tokens is allowed.
    """

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        """Check `scores` [batch, vocabulary] of the next tokens, and return them."""
        highest = scores.amax(dim=-1)  # NaN where any logit is
        if not bool(torch.isfinite(highest).all()):
            sample = int((~torch.isfinite(highest)).nonzero()[0])
            raise ModelError(
                f"the model's output for sample {sample} of a batch, counted from 0, is not a "
                "number: weights or inputs are damaged, or numbers overflowed; check the "
                "checkpoint, or use --dtype bfloat16 or float32"
            )
        return scores
