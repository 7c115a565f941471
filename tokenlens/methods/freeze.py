"""SwiftVLM's stages, with what is not selected frozen instead of set aside."""

from collections.abc import Sequence

from tokenlens.methods.method import Method
from tokenlens.methods.swiftvlm import relative_layers
from tokenlens.methods.swiftvlm_stages import swiftvlm_stages
from tokenlens.schedule import Stage


def freeze_stages(layers: Sequence[int]) -> list[Stage]:
    """SwiftVLM's stages without merged tokens, each of which freezes, the last one too."""
    return [
        stage.model_copy(update={"disposal": "freeze"})
        for stage in swiftvlm_stages(layers, merge=0)
    ]


METHOD = Method(
    name="freeze",
    summary="re-score at chosen layers; what is not chosen is frozen, but stays readable",
    source=(
        "tokenlens's own. The layers and keeps of `swiftvlm` (arXiv 2602.03134) without merged "
        "tokens: a token that is not selected keeps its hidden state until the next stage, and "
        "every layer makes keys and values of it. What the last stage does not select is frozen "
        "to the end and stays in the cache, which is as large as the unpruned model's. A budget "
        "in tokens counts those that are updated; give one in MACs to compare it with others."
    ),
    own_layers=relative_layers,
    stages=freeze_stages,
)
