"""Merge: merged tokens replace the rest and compete at later stages like any other token."""

from tokenlens.pruning.disposal import Disposal, Disposed, StageDecision, merged_in
from tokenlens.pruning.disposals.drop import drop
from tokenlens.pruning.grouping import group


def merge(decision: StageDecision) -> Disposed:
    """Keep the survivors and the merged tokens."""
    if not any(decision.merging):
        return drop(decision)
    rest = decision.rest_placed()
    groups = group(rest.tokens, decision.merging)
    return merged_in(decision, groups.merged, rest.order.gather(1, groups.order))


DISPOSAL = Disposal.own("merge", merge)
