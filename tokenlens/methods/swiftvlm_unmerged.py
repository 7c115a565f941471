"""SwiftVLM's bypass without merged tokens: what is set aside comes back as it left."""

from functools import partial

from tokenlens.methods.method import Method
from tokenlens.methods.swiftvlm import relative_layers
from tokenlens.methods.swiftvlm_stages import swiftvlm_stages

METHOD = Method(
    name="swiftvlm-unmerged",
    summary="as swiftvlm, but nothing stands in for what is set aside",
    source=(
        "A part of arXiv 2602.03134 that the paper has no row of: no merged tokens, and so no "
        "alignment; the budget they would take goes to tokens that are kept. Layers as in "
        "`swiftvlm`."
    ),
    own_layers=relative_layers,
    layers_from="profile",
    stages=partial(swiftvlm_stages, merge=0),
)
