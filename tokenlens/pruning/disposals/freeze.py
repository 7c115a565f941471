"""Freeze: the rest keeps its hidden states and stays readable until the next stage."""

from tokenlens.pruning.disposal import Disposal, Disposed, StageDecision, aside


def freeze(decision: StageDecision) -> Disposed:
    """Update only the survivors; every layer still computes keys and values of the rest."""
    return aside(decision)


DISPOSAL = Disposal.own("freeze", freeze)
