"""What a preset is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tokenlens.schedule import Scorer, Stage


@dataclass(frozen=True)
class Method:
    """A way to prune, before it is fitted to a model and a budget.

    Attributes:
        name: as in `METHODS`.
        summary: one line for the user.
        source: where it was published, and every deviation from it.
        own_layers: the scoring layers for a model of so many layers, counted from 1.
        stages: the stages at given layers; their `keep` is set by the budget.
        scorer: how importance is read.
        step: how much the power of the keep ratio grows from stage to stage: λ, λ², λ³, … or, with
            2, λ, λ³, λ⁵, …
    """

    name: str
    summary: str
    source: str
    own_layers: Callable[[int], Sequence[int]]
    stages: Callable[[Sequence[int]], Sequence[Stage]]
    scorer: Scorer = field(default_factory=Scorer)
    step: int = 1
