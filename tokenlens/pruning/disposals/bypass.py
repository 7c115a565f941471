"""Bypass: the rest skips the layers up to the next stage; merged tokens replace it until then."""

from dataclasses import replace

from tokenlens.pruning.disposal import BypassedTokens, Disposal, Disposed, StageDecision, in_order
from tokenlens.pruning.grouping import group


def bypass(decision: StageDecision) -> Disposed:
    """Keep survivors and merged tokens; set the rest aside (SwiftVLM, arXiv 2602.03134, §3.3)."""
    rest, survivors = decision.rest(), decision.survivors()
    if not any(decision.merging):
        return Disposed(survivors, bypassed=BypassedTokens(rest, None))
    groups = group(rest, decision.merging)
    merged = groups.merged
    stand_ins = merged._replace(slots=replace(merged.slots, stand_in=merged.slots.present))
    return Disposed(in_order(survivors, stand_ins), merged, BypassedTokens(rest, groups))


DISPOSAL = Disposal.own("bypass", bypass)
