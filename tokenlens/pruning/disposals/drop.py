"""The rest leaves for good."""

from tokenlens.pruning.disposal import Disposal, Disposed, StageDecision


def drop(decision: StageDecision) -> Disposed:
    """Only the survivors go on."""
    return Disposed(decision.survivors())


DISPOSAL = Disposal.own("drop", drop)
