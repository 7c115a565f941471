"""tokenlens's own: of the ways to spend a budget, the one that loses least in a profile."""

from collections.abc import Sequence

from tokenlens.methods.method import Method
from tokenlens.schedule import Scorer, Stage
from tokenlens.schedule.layer_needs import LayerNeeds
from tokenlens.selection.candidate_paths import candidate_paths
from tokenlens.selection.layer_modes import ModePath


def updating_layers(layers: int) -> list[int]:
    """The first quarter of the layers, where nothing was measured.

    >>> updating_layers(24), updating_layers(5)
    ([1, 2, 3, 4, 5, 6], [1, 2])
    """
    needs = LayerNeeds.assumed(layers)
    return [number for number, need in enumerate(needs.update, start=1) if need]


def _stages(layers: Sequence[int]) -> list[Stage]:
    """The stages for needs that are assumed, `layers` updating, in a model that ends with them."""
    return ModePath.of(LayerNeeds.assumed(max(layers), layers), None)((), 0.5)


METHOD = Method(
    name="tokenlens",
    summary="visual tokens are updated, readable, fewer or gone, as loses least in a profile",
    source=(
        "tokenlens's own, after ShortV (arXiv 2504.00502) and the information horizon (arXiv "
        "2512.07580). By the information profile (`tokenlens information`, no labels): two forward "
        "passes per layer tell what the model's answers lose where a layer alone does not update "
        "visual tokens, and where it alone has none. On the path `modes` a layer has them updated, "
        "readable (`freeze`) or set aside (`bypass`), after the last layer that needs them they "
        "are dropped, and a budget buys the steps that save the most loss per MAC. On twenty other "
        "paths they are updated in 55 to 100 % of these layers, readable in the others, and fewer: "
        "evenly spaced, unlike each other (DivPrune's), chosen by the words that look at the "
        "picture (SparseVLM's raters, nearness set aside), or both. The profile follows every path "
        "at eight budgets, and the one is taken that loses least. Without a profile the first "
        "quarter of the layers updates and the first three quarters read, or `layers` are those "
        "that update. A budget in tokens counts updated ones alone; one in MACs compares it with "
        "other methods."
    ),
    own_layers=updating_layers,
    layers_from="information",
    stages=_stages,
    scorer=Scorer(query="uniform"),
    by_needs=candidate_paths,
)
