"""Random tokens: the baseline every method has to beat."""

from tokenlens.methods.fastv import single_drop
from tokenlens.methods.method import Method
from tokenlens.schedule import Scorer

METHOD = Method(
    name="random",
    summary="drop a seeded random choice once, after layer 2",
    source="No publication; FastV's stage without its importance.",
    own_layers=lambda _layers: [2],
    stages=single_drop,
    scorer=Scorer(query="random", seed=0),
)
