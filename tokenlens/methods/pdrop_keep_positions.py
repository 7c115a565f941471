"""PyramidDrop whose survivors stay where they were: what renumbering is compared with."""

from tokenlens.methods.method import Method
from tokenlens.methods.pdrop import early_layers, pyramid_drops, pyramid_layers

METHOD = Method(
    name="pdrop-keep-positions",
    summary="as pdrop, but the tokens that are left keep their positions",
    source=(
        "arXiv 2410.17247 with one deviation from `pdrop`, and all of that one's own: rotary "
        "positions are not numbered anew."
    ),
    own_layers=pyramid_layers,
    layers_from="spread",
    early_layers=early_layers,
    stages=pyramid_drops,
)
