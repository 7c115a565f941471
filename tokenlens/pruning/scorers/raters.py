"""Scorer "raters": the attention rows of SparseVLM's raters, text tokens similar to the picture."""

import torch
from torch import Tensor

from tokenlens.pruning.attention_rows import accumulation_dtype
from tokenlens.pruning.scorers.text import text_rows
from tokenlens.pruning.scoring import Prompt, RowScoring
from tokenlens.pruning.tokens import arrange, take_rows
from tokenlens.registry import SCORER_SUMMARIES


def rater_rows(prompt: Prompt, embeddings: Tensor) -> Tensor:
    """SparseVLM's raters (arXiv 2410.04417, as coded): text tokens similar to the picture.

    Softmax over the text tokens after the picture of visual·textᵀ, on the embeddings that enter
    layer 1, mean over visual tokens; raters are the text tokens above the mean. Deviation: where
    none is above it, all of them are.
    """
    text = text_rows(prompt, embeddings)
    n_text, n_visual = int(text.sum(1).max()), int(prompt.visual.sum(1).max())
    if n_text == 0 or n_visual == 0:
        return text
    places = torch.arange(text.shape[1], device=text.device).expand_as(text)
    text_order = arrange(places, text, n_text)  # [batch, text]
    visual_order = arrange(places, prompt.visual, n_visual)  # [batch, visual]
    is_text, is_visual = text.gather(1, text_order), prompt.visual.gather(1, visual_order)
    states = embeddings.to(accumulation_dtype(embeddings))
    # [batch, visual, hidden] @ [batch, hidden, text] = [batch, visual, text]
    logits = take_rows(states, visual_order) @ take_rows(states, text_order).transpose(1, 2)
    blocked = torch.finfo(logits.dtype).min
    affinity = logits.masked_fill(~is_text[:, None], blocked).softmax(dim=2)
    # mean over visual tokens: [batch, text]
    ratings = (affinity * is_visual[:, :, None]).sum(1) / is_visual.sum(1, keepdim=True).clamp(
        min=1
    )
    mean = (ratings * is_text).sum(1, keepdim=True) / is_text.sum(1, keepdim=True).clamp(min=1)
    above = (ratings > mean) & is_text
    chosen = torch.zeros_like(text).scatter(1, text_order, above)  # [batch, length]
    return chosen.where(chosen.any(1, keepdim=True), text)


SCORER = RowScoring(
    rater_rows,
    summary=SCORER_SUMMARIES["raters"],
    macs=lambda visual, text, hidden: visual * text * hidden,
)
