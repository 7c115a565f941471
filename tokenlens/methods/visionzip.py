"""VisionZip: before the first layer, the tokens that dominate the vision tower, and a digest."""

from collections.abc import Sequence

from tokenlens.methods.method import Method
from tokenlens.schedule import Scorer, Stage

_DOMINANT, _CONTEXTUAL = 27, 5
"""Of 32 tokens, as in the published 162 + 30 (54 + 10, and nearly 108 + 20)."""
_DIGITS = 6
"""Of `merge`: no sample has so many tokens that the count would differ by more than one."""


def _stage(layers: Sequence[int]) -> list[Stage]:
    return [
        Stage(
            score_layer=layer, when="after", keep=1.0, disposal="contextual", positions="renumber"
        )
        for layer in layers
    ]


def dominant_and_contextual(stages: Sequence[Stage], share: float) -> list[Stage]:
    """Of the share λ that goes on, 27/32 are kept and 5/32 are made of the rest.

    >>> dominant_and_contextual(_stage([0]), 0.32)[0].keep
    0.27
    >>> round(dominant_and_contextual(_stage([0]), 0.32)[0].merge * 0.73, 6)
    0.05
    """
    kept, made = (share * part / (_DOMINANT + _CONTEXTUAL) for part in (_DOMINANT, _CONTEXTUAL))
    changes = {"keep": kept, "merge": round(made / (1 - kept), _DIGITS)}
    return [stage.model_copy(update=changes) for stage in stages]


METHOD = Method(
    name="visionzip",
    summary="keep what the vision tower attends to, and merge the rest, before the first layer",
    source=(
        "arXiv 2412.04467, as coded: importance is the class token's attention row in the "
        "second-to-last layer of the vision tower, or, without a class token, the mean attention a "
        "patch receives there; dominant to contextual tokens as 162 to 30; a contextual token is a "
        "target plus the mean of the tokens whose keys in that layer are most similar to it. "
        "Deviations: the published 162 count the class token, which transformers' LLaVA leaves "
        "out, so here all of them are patches; tokens are merged behind the projector instead of "
        "before it, and stay in the order of the prompt instead of dominant ones first; where a "
        "visual token is made of several patches it has their mean importance and key (keys as "
        "the tower compares them, rotary embedding included); in Qwen2.5-VL, whose second-to-last "
        "block sees windows, the last block that sees whole pictures is read; several pictures "
        "or tiles of a prompt compete together."
    ),
    own_layers=lambda _layers: [0],
    stages=_stage,
    scorer=Scorer(query="vision"),
    ratio_rule=dominant_and_contextual,
)
