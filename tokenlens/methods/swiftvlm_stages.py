"""The stages of a SwiftVLM schedule for given layers."""

from collections.abc import Sequence

from tokenlens.schedule import Stage

MERGE = 0.1
"""Merged tokens per token set aside, as published."""


def swiftvlm_stages(layers: Sequence[int], merge: int | float = MERGE) -> list[Stage]:
    """Bypass at all `layers` (counted from 1) but the last, which drops (arXiv 2602.03134, §3.3).

    The first stage scores after its layer, later ones before theirs. `keep` is everything, to be
    set by the budget.
    """
    return [
        Stage(
            score_layer=layer,
            when="before" if index else "after",
            keep=1.0,
            disposal="drop" if layer == layers[-1] else "bypass",
            merge=0 if layer == layers[-1] else merge,
        )
        for index, layer in enumerate(layers)
    ]
