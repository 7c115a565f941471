"""The rest goes on as merged tokens, which compete at later stages like any other."""

from tokenlens.pruning.disposal import Cut, Disposal, Disposed, in_order
from tokenlens.pruning.disposals.drop import drop
from tokenlens.pruning.grouping import group
from tokenlens.registry import DISPOSAL_SUMMARIES


def merge(cut: Cut) -> Disposed:
    """Survivors and merged tokens go on."""
    if not any(cut.merging):
        return drop(cut)
    merged = group(cut.rest(), cut.merging).merged
    return Disposed(in_order(cut.survivors(), merged), merged)


DISPOSAL = Disposal(merge, summary=DISPOSAL_SUMMARIES["merge"])
