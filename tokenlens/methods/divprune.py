"""DivPrune: before the first layer, keep the visual tokens that are least like each other."""

from collections.abc import Sequence

from tokenlens.methods.method import Method
from tokenlens.schedule import Scorer, Stage


def _before_the_decoder(layers: Sequence[int]) -> list[Stage]:
    return [
        Stage(score_layer=layer, when="after", keep=1.0, disposal="drop", positions="renumber")
        for layer in layers
    ]


METHOD = Method(
    name="divprune",
    summary="keep tokens that are unlike each other (max-min), before the first layer",
    source=(
        "arXiv 2503.02175, as coded: on 1 - cosine of the projected visual features, first the "
        "token whose nearest other is farthest, then always the one whose nearest kept token is "
        "farthest; tokens are numbered anew, in the order of the prompt. Ties go to the earlier "
        "token, and none is kept twice (the published code can pick copies of kept tokens again). "
        "Several pictures compete together. The published ratio is of the tokens kept; here it is "
        "solved for the budget, which is the same since every layer is on fewer tokens."
    ),
    own_layers=lambda _layers: [0],
    stages=_before_the_decoder,
    scorer=Scorer(query="diverse"),
)
