"""Merge: merged tokens replace the rest and compete at later stages like any other token."""

from tokenlens.pruning.disposal import Disposal, Disposed, StageDecision, in_order
from tokenlens.pruning.disposals.drop import drop
from tokenlens.pruning.grouping import group


def merge(decision: StageDecision) -> Disposed:
    """Keep the survivors and the merged tokens."""
    if not any(decision.merging):
        return drop(decision)
    merged = group(decision.rest(), decision.merging).merged
    return Disposed(in_order(decision.survivors(), merged), merged)


DISPOSAL = Disposal.own("merge", merge)
