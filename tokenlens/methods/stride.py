"""Tokens at even distances: what a method must know of the picture to beat."""

from tokenlens.methods.fastv import single_drop
from tokenlens.methods.method import Method
from tokenlens.schedule import Scorer

METHOD = Method(
    name="stride",
    summary="keep tokens at even distances, before the first layer",
    source=(
        "No publication; a baseline. Even distances are along the order of the prompt, not in the "
        "picture's rows and columns, so that any number can be kept."
    ),
    own_layers=lambda _layers: [0],
    stages=single_drop,
    scorer=Scorer(query="uniform"),
)
