"""Freeze: the rest keeps its hidden states and stays readable until the next stage."""

from tokenlens.pruning.disposal import BypassedTokens, Disposal, Disposed, StageDecision


def freeze(decision: StageDecision) -> Disposed:
    """Update only the survivors; every layer still computes keys and values of the rest."""
    return Disposed(decision.survivors(), bypassed=BypassedTokens(decision.rest(), None))


DISPOSAL = Disposal.own("freeze", freeze)
