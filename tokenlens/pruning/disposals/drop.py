"""The rest leaves for good."""

from tokenlens.pruning.disposal import Cut, Disposal, Disposed
from tokenlens.registry import DISPOSAL_SUMMARIES


def drop(cut: Cut) -> Disposed:
    """Only the survivors go on."""
    return Disposed(cut.survivors())


DISPOSAL = Disposal(
    drop,
    merged=lambda _merge, _rest: 0,
    later="kept",
    settable=False,
    summary=DISPOSAL_SUMMARIES["drop"],
)
