"""Bypass: the rest skips the layers up to the next stage; merged tokens replace it until then."""

from tokenlens.pruning.disposal import BypassedTokens, Disposal, Disposed, StageDecision, aside
from tokenlens.pruning.grouping import group


def bypass(decision: StageDecision) -> Disposed:
    """Keep survivors and merged tokens; set the rest aside (SwiftVLM, arXiv 2602.03134, §3.3)."""
    if not any(decision.merging):
        return aside(decision)
    rest = decision.rest_placed()
    groups = group(rest.tokens, decision.merging)
    going = decision.with_merged(groups.merged, rest.order.gather(1, groups.order))
    bypassed = BypassedTokens.beside(going, rest, decision.tokens.slots, groups)
    return Disposed(going.tokens, groups.merged, bypassed)


DISPOSAL = Disposal.own("bypass", bypass)
