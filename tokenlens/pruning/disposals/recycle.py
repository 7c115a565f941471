"""Recycle: the tokens of the rest with the highest scores are clustered, one token per cluster."""

import numpy as np
import torch

from tokenlens.pruning.attention_rows import accumulation_dtype
from tokenlens.pruning.clustering import density_peaks
from tokenlens.pruning.cost.decoder_cost import Floats
from tokenlens.pruning.disposal import Disposal, Disposed, StageDecision, merged_in
from tokenlens.pruning.tokens import arrange
from tokenlens.schedule.disposal_kinds import clustered


def recycle(decision: StageDecision) -> Disposed:
    """Keep survivors and cluster means; drop the others (SparseVLM, arXiv 2410.04417).

    As coded: of the tokens not kept those with the highest scores (`clustered`) are clustered by
    the density peaks of their hidden states, in the order of their scores, and each cluster
    becomes the mean of its members, summed in float32 (float64 for a float64 model). Deviations:
    a cluster takes its centre's position, not one after the last visual token, since causal masks
    cannot tell apart two tokens of one position; and ties are broken by score, not by noise.
    """
    tokens, slots = decision.tokens, decision.tokens.slots
    hidden, centres = tokens.hidden.clone(), torch.zeros_like(slots.visual)
    rest = slots.visual & ~decision.kept
    ranked = decision.scores.masked_fill(~rest, -torch.inf).argsort(
        dim=1, descending=True, stable=True
    )
    dtype = accumulation_dtype(hidden)
    for row, (visual, keeping, count) in enumerate(
        zip(slots.visuals, decision.keeping, decision.merging, strict=True)
    ):
        if not count:
            continue
        pool = ranked[row, : clustered(visual - keeping)]
        states = tokens.hidden[row, pool].to(dtype)  # [pool, hidden]
        peaks, member_of = density_peaks(states, count)
        belongs = torch.nn.functional.one_hot(member_of, count).to(dtype).T  # [count, pool]
        means = (belongs @ states) / belongs.sum(1, keepdim=True)  # [count, hidden]
        hidden[row, pool[peaks]] = means.to(hidden.dtype)
        centres[row, pool[peaks]] = True
    merged = tokens._replace(hidden=hidden).take(centres, decision.merging, decision.merging)
    return merged_in(decision, merged, arrange(slots.index, centres, max(decision.merging)))


def recycling_macs(rest: Floats, merged: Floats, hidden: int) -> Floats:
    """MACs of comparing every two of n clustered tokens and summing them into k: n²d + nkd."""
    pool = np.vectorize(clustered, otypes=[np.float64])(rest)
    return np.where(merged > 0, (pool + merged) * pool * hidden, 0.0)


DISPOSAL = Disposal.own("recycle", recycle, macs=recycling_macs, added=False)
