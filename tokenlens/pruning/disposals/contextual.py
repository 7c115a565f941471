"""Contextual merging: the rest is merged by its keys in the vision tower (VisionZip)."""

from tokenlens.errors import PruningError
from tokenlens.pruning.attention_rows import accumulation_dtype
from tokenlens.pruning.cost.decoder_cost import Floats
from tokenlens.pruning.disposal import Disposal, Disposed, StageDecision, merged_in
from tokenlens.pruning.disposals.drop import drop
from tokenlens.pruning.grouping import Seeds, group_means, join_nearest
from tokenlens.pruning.tokens import Tokens, take_rows


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
    placed = decision.rest_placed()
    rest, places = placed.tokens, placed.order
    slots, merging = rest.slots, decision.merging
    targets = Seeds.among(slots, merging, _by_steps)
    # [batch, length, size] of the padded input to [batch, rest, size]
    keys = take_rows(decision.tower_reading.keys.to(slots.index.device), slots.index)
    member_of = join_nearest(keys, targets)
    states = rest.hidden.to(accumulation_dtype(rest.hidden))
    joined = slots.present & ~targets.there
    added = group_means(states, member_of, joined, max(merging))
    # [batch, merged, hidden]
    summed = (take_rows(rest.hidden, targets.order) + added).to(rest.hidden.dtype)
    merged = Tokens(summed, slots.take(targets.order, targets.present, merging, merging))
    return merged_in(decision, merged, places.gather(1, targets.order))


def _by_steps(i: int, rest: int, targets: int) -> int:
    return i * (rest // targets)


def _summed(rest: Floats, merged: Floats, hidden: int) -> Floats:
    """MACs of comparing keys (counted with the width of a hidden state) and of adding: 2RZd."""
    return 2 * merged * rest * hidden


DISPOSAL = Disposal.own("contextual", contextual, macs=_summed, tower=True)
