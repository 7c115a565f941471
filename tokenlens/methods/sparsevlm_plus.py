"""SparseVLM+: the words near to the picture, read by few heads and without the pull of the near."""

from tokenlens.methods.fastv import single_drop
from tokenlens.methods.method import Method
from tokenlens.methods.sparsevlm import rater_layers
from tokenlens.schedule import Scorer

METHOD = Method(
    name="sparsevlm-plus",
    summary="as sparsevlm, by the heads that look at the picture most, nearness set aside; drops",
    source=(
        "SparseVLM+ (December 2025; version 2.0 of SparseVLM's code): raters and layers as in "
        "`sparsevlm` (arXiv 2410.04417); attention is divided by what the rotary embedding makes "
        "of distance, then the 14 of 32 heads that give the picture the most are averaged (the "
        "same share of other models' heads, rounded); what is not kept is dropped, and positions "
        "are kept. The share of heads is in that code; the division, the dropping and the "
        "positions are as in a port of it to Qwen3-VL that cites the paper's sections 4.2 and 4.3."
        " The code's keep counts are fixed by hand (300, 200, 118 of 576 for 192); here λ, λ², λ³ "
        "are solved for the budget. Other deviations: the divisor is 1 at distance 0 and 0.1 at "
        "least, where the code divides by 0 and by negative numbers; where no word is above the "
        "mean, all of them rate."
    ),
    own_layers=rater_layers,
    layers_from="spread",
    stages=single_drop,
    scorer=Scorer(query="raters", heads=14 / 32, decay="divide"),
)
