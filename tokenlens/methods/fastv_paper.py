"""FastV by its paper: the mean attention a token receives from all others."""

from tokenlens.methods.fastv import single_drop
from tokenlens.methods.method import Method
from tokenlens.schedule import Scorer

METHOD = Method(
    name="fastv-paper",
    summary="drop once, by the mean attention of all tokens in layer 2",
    source=(
        "arXiv 2403.06764, K = 2, with the importance of the text: attention averaged over heads "
        "and all rows of the prompt; rows before a token do not see it and count as zero. The "
        "published code reads the last row alone: see `fastv`."
    ),
    own_layers=lambda _layers: [2],
    stages=single_drop,
    scorer=Scorer(query="all"),
)
