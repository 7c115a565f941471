"""FastV: one drop by the attention of an early layer."""

from collections.abc import Sequence

from tokenlens.methods.method import Method
from tokenlens.schedule import Stage


def single_drop(layers: Sequence[int]) -> list[Stage]:
    """A drop after each of `layers` (one, as published)."""
    return [Stage(score_layer=layer, when="after", keep=1.0, disposal="drop") for layer in layers]


METHOD = Method(
    name="fastv",
    summary="drop once, by the last prompt token's attention in layer 2",
    source=(
        "arXiv 2403.06764, K = 2. As in the published code, importance is the last prompt token's "
        "row; the paper averages over all rows."
    ),
    own_layers=lambda _layers: [2],
    stages=single_drop,
)
