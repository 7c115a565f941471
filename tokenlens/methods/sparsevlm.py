"""SparseVLM: drops by the words near to the picture, and clusters of the best of the rest."""

from collections.abc import Sequence

from tokenlens.methods.method import Method
from tokenlens.schedule import Scorer, Stage

_PUBLISHED = (3, 7, 16)


def rater_layers(layers: int) -> list[int]:
    """Layers 3, 7 and 16 of 32, at the same depth of others, each one layer deeper at least.

    >>> rater_layers(32), rater_layers(12), rater_layers(6), rater_layers(3)
    ([3, 7, 16], [1, 3, 6], [1, 2, 3], [1, 2])
    """
    found: list[int] = []
    for layer in _PUBLISHED:
        found.append(max(found[-1] + 1 if found else 1, round(layers * layer / 32)))
    return [layer for layer in found if layer < layers]


def _stages(layers: Sequence[int]) -> list[Stage]:
    return [
        Stage(
            score_layer=layer,
            when="after",
            keep=1.0,
            disposal="recycle",
            positions="renumber",
        )
        for layer in layers
    ]


METHOD = Method(
    name="sparsevlm",
    summary="drop after three layers, by the words near to the picture; clusters of the rest go on",
    source=(
        "arXiv 2410.04417, as coded: attention of layers 3, 7 and 16 of 32, counted from 1 (at the "
        "same relative depth of others), mean over heads and over the raters' rows, softmax over "
        "the whole sequence; of the R tokens not kept the best floor(0.3·R) + 1 are clustered by "
        "density peaks, a cluster for every ten and one more, and each cluster's mean goes on and "
        "competes again; positions are renumbered. The code's keep counts are fixed by hand for "
        "three budgets (300, 200, 110 of 576 for 192) and the paper's rank rule is not in it; here "
        "λ, λ², λ³ are solved for the budget, clusters counted. Its budgets count tokens after "
        "each pruning layer: entering the layers its 192, 128 and 64 are 206.5, 145.4 and 82.3. "
        "Other deviations: a cluster stands where its centre stood, not after the last visual "
        "token; equal densities are told apart by score, not by random noise; where no word is "
        "above the mean, all of them rate."
    ),
    own_layers=rater_layers,
    layers_from="spread",
    stages=_stages,
    scorer=Scorer(query="raters"),
)
