"""The rest is set aside for the next stage; merged tokens stand in for it until then."""

from dataclasses import replace

from tokenlens.pruning.disposal import Aside, Cut, Disposal, Disposed, in_order
from tokenlens.pruning.grouping import group
from tokenlens.registry import DISPOSAL_SUMMARIES


def bypass(cut: Cut) -> Disposed:
    """Survivors and stand-ins go on (SwiftVLM, arXiv 2602.03134, §3.3)."""
    rest, survivors = cut.rest(), cut.survivors()
    if not any(cut.merging):
        return Disposed(survivors, aside=Aside(rest, None))
    groups = group(rest, cut.merging)
    merged = groups.merged
    stand_ins = merged._replace(slots=replace(merged.slots, stand_in=merged.slots.present))
    return Disposed(in_order(survivors, stand_ins), merged, Aside(rest, groups))


DISPOSAL = Disposal(bypass, later="all", summary=DISPOSAL_SUMMARIES["bypass"])
