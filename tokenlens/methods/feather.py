"""FEATHER: two drops by scores without rotary embedding, the first of which spares a grid."""

from collections.abc import Sequence
from functools import partial

from tokenlens.methods.method import Method
from tokenlens.schedule import Scorer, Stage
from tokenlens.selection.solve import geometric

_STRIDE = 3


def feather_layers(layers: int) -> list[int]:
    """Layers 8 and 16 of 32, at the same depth of others.

    >>> feather_layers(32), feather_layers(12), feather_layers(5)
    ([8, 16], [3, 6], [1, 2])
    """
    return sorted({max(1, round(layers / 4)), max(1, round(layers / 2))})


def _stages(layers: Sequence[int]) -> list[Stage]:
    return [
        Stage(
            score_layer=layer,
            when="after",
            keep=1.0,
            disposal="drop",
            stride=None if place else _STRIDE,
        )
        for place, layer in enumerate(layers)
    ]


METHOD = Method(
    name="feather",
    summary="drop twice, by scores without rotary embedding; the first time a grid is kept as well",
    source=(
        "arXiv 2412.13180, as coded: the last prompt token's query and the visual keys of layers 8 "
        "and 16 of 32 (at the same relative depth of others), without rotary embedding, softmax "
        "over the visual tokens, mean over heads; stage 1 keeps the best tokens and those of every "
        "third row and column. As published, stage 1 keeps a share r beside the grid, and stage 2 "
        "r² of what is left; here λ and λ³ of all are solved for the budget, the grid counted, so "
        "that its size never depends on how the two overlap. Where λ is less than the grid, the "
        "best of the grid are kept. Pictures that are no square have every ninth token as a grid."
    ),
    own_layers=feather_layers,
    layers_from="spread",
    stages=_stages,
    scorer=Scorer(rotary=False, softmax="visual"),
    ratio_rule=partial(geometric, step=2),
)
