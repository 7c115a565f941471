"""Drop: the rest is removed and does not come back."""

from tokenlens.pruning.disposal import Disposal, Disposed, StageDecision


def drop(decision: StageDecision) -> Disposed:
    """Keep only the survivors."""
    return Disposed(decision.survivors())


DISPOSAL = Disposal.own("drop", drop)
