"""Contextual merging: the rest is merged by its keys in the vision tower (VisionZip)."""

import torch
from torch import Tensor

from tokenlens.errors import PruningError
from tokenlens.pruning.cost.decoder_cost import Floats
from tokenlens.pruning.disposal import Disposal, Disposed, StageDecision, in_order
from tokenlens.pruning.disposals.drop import drop
from tokenlens.pruning.grouping import group_means, join_nearest, seed_places
from tokenlens.pruning.scoring import accumulation_dtype
from tokenlens.pruning.tokens import take_rows


def contextual(decision: StageDecision) -> Disposed:
    """Keep survivors and contextual tokens (VisionZip, arXiv 2412.04467, §3.2, as coded).

    Of R tokens not kept, the targets of z contextual ones are those at 0, s, 2s, … with s = R // z.
    Every other one joins the target whose keys in the vision tower, mean over heads, are the most
    similar by cosine, ties to the earlier target. A contextual token is its target plus the mean of
    those that joined it, at the target's position.
    """
    if not any(decision.merging):
        return drop(decision)
    if decision.tower_reading is None:
        raise PruningError(
            "disposal 'contextual': nothing was read from the vision tower; choose another disposal"
        )
    rest = decision.rest()
    slots = rest.slots
    target_of = seed_places(slots, decision.merging, _by_steps)
    # [batch, length, size] of the padded input to [batch, rest, size]
    keys = take_rows(decision.tower_reading.keys.to(slots.index.device), slots.index)
    member_of = join_nearest(keys, slots, target_of, decision.merging)
    states = rest.hidden.to(accumulation_dtype(rest.hidden))
    joined = slots.present & (target_of < 0)
    added = group_means(states, member_of, joined, max(decision.merging))
    targets = rest.take(target_of >= 0, decision.merging, decision.merging)
    summed = (targets.hidden + added).to(rest.hidden.dtype)  # [batch, merged, hidden]
    merged = targets._replace(hidden=summed)
    return Disposed(in_order(decision.survivors(), merged), merged)


def _by_steps(i: Tensor, rest: Tensor, targets: Tensor) -> Tensor:
    return i * torch.div(rest, targets, rounding_mode="floor")


def _summed(rest: Floats, merged: Floats, hidden: int) -> Floats:
    """MACs of comparing keys (counted with the width of a hidden state) and of adding: 2RZd."""
    return 2 * merged * rest * hidden


DISPOSAL = Disposal.own("contextual", contextual, macs=_summed, tower=True)
