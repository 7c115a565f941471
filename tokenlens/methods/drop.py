"""Dropping for good at SwiftVLM's stages: what the bypass is compared with."""

from collections.abc import Sequence

from tokenlens.methods.method import Method
from tokenlens.methods.swiftvlm import relative_layers
from tokenlens.methods.swiftvlm_stages import swiftvlm_stages
from tokenlens.schedule import Stage


def _drop_stages(layers: Sequence[int]) -> list[Stage]:
    changes = {"disposal": "drop", "merge": 0}
    return [stage.model_copy(update=changes) for stage in swiftvlm_stages(layers)]


METHOD = Method(
    name="drop",
    summary="SwiftVLM's stages without bypass: what is not chosen is dropped",
    source="The ablation of arXiv 2602.03134 (no merging, no bypass).",
    own_layers=relative_layers,
    layers_from="profile",
    stages=_drop_stages,
)
