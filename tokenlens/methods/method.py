"""What a preset is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tokenlens.schedule import Scorer, Stage
from tokenlens.selection.solve import RatioRule, geometric


@dataclass(frozen=True)
class Method:
    """A way to prune, before it is fitted to a model and a budget.

    Attributes:
        name: as in `tokenlens.registry.METHODS`.
        summary: one line for the user.
        source: where it was published, and every deviation from it.
        own_layers: the scoring layers for a model of so many layers, counted from 1.
        stages: the stages at given layers; their `keep` is set by the budget.
        scorer: how importance is read.
        ratio_rule: the same stages at a share λ in [0, 1] that the budget is solved for: what each
            keeps grows with λ, and at 1 it is everything. By default λ, λ², λ³, …
        smaller_picture: whether the budget is met by a smaller picture, and there are no stages.
        early_layers: those published for budgets that the own ones cannot reach; None where there
            are none. A preset takes them only where it is given them.
    """

    name: str
    summary: str
    source: str
    own_layers: Callable[[int], Sequence[int]]
    stages: Callable[[Sequence[int]], Sequence[Stage]]
    scorer: Scorer = field(default_factory=Scorer)
    ratio_rule: RatioRule = geometric
    smaller_picture: bool = False
    early_layers: Callable[[int], Sequence[int]] | None = None
