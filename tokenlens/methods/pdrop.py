"""PyramidDrop: fewer and fewer tokens at a quarter, a half and three quarters of the depth."""

from collections.abc import Sequence

from tokenlens.methods.method import Method
from tokenlens.schedule import Stage


def pyramid_layers(layers: int) -> list[int]:
    """Layers 9, 17 and 25 of 32, which are the first on fewer tokens, at the same depth of others.

    >>> pyramid_layers(32), pyramid_layers(12)
    ([9, 17, 25], [4, 7, 10])
    """
    firsts = {round(layers * quarters / 4) + 1 for quarters in (1, 2, 3)}
    return sorted(first for first in firsts if first <= layers)


def early_layers(layers: int) -> list[int]:
    """Layers 3, 9 and 17 of 32, the first on fewer tokens, at the same depth of others.

    >>> early_layers(32), early_layers(24)
    ([3, 9, 17], [3, 7, 13])
    """
    return sorted({round(first * layers / 32) + 1 for first in (2, 8, 16)})


def pyramid_drops(layers: Sequence[int]) -> list[Stage]:
    """A drop before each of `layers`, by that layer's own attention; survivors keep positions."""
    return [Stage(score_layer=layer, when="before", keep=1.0, disposal="drop") for layer in layers]


def _renumbered(layers: Sequence[int]) -> list[Stage]:
    change = {"positions": "renumber"}
    return [stage.model_copy(update=change) for stage in pyramid_drops(layers)]


METHOD = Method(
    name="pdrop",
    summary="drop at three depths, by the next layer's last row; positions are renumbered",
    source=(
        "arXiv 2410.17247, as coded: the last prompt token's query and the keys of the layer that "
        "is about to run, softmax over the whole sequence, mean over heads; survivors are numbered "
        "0, 1, 2, … anew. Stages [8, 16, 24] of 32, counted from 0, are taken at the same relative "
        "depth, and the ratios λ, λ², λ³ are solved for the budget instead of 1/2, 1/4, 1/8; "
        "counts round half up. Budgets too small for these stages need earlier ones: [2, 8, 16] "
        "is layers=[3, 9, 17] here."
    ),
    own_layers=pyramid_layers,
    layers_from="spread",
    early_layers=early_layers,
    stages=_renumbered,
)
