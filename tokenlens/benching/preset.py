"""The preset of a cell, in a model that may stand for a deeper one."""

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from tokenlens.benching.request import Cell
from tokenlens.errors import BudgetError
from tokenlens.methods import find_method
from tokenlens.methods.method import Method
from tokenlens.models.structure import decoder_layers
from tokenlens.schedule import Schedule


def schedule_for(
    model: PreTrainedModel, cell: Cell, visual: int, text: int, depth: int | None = None
) -> Schedule:
    """The preset of a cell; its layers for small budgets where its own cannot reach the budget.

    Args:
        model: the model to prune.
        cell: the method and its budget.
        visual: visual tokens of a prompt.
        text: its other tokens.
        depth: decoder layers of the model that `model` stands for, at whose relative depth it is
            pruned; None where it stands for itself.
    """
    method, layers = find_method(cell.method), len(decoder_layers(model))

    def preset(own: Callable[[int], Sequence[int]] | None) -> Schedule:
        return Schedule.preset(
            cell.method,
            model,
            budget=cell.budget,
            layers=None if own is None else at_depth(method, own(depth or layers), layers, depth),
            n_visual=visual,
            n_text=text,
        )

    fixed = method.by_needs is None and not method.smaller_picture
    try:
        return preset(method.own_layers if fixed else None)
    except BudgetError:
        if method.early_layers is None:
            raise
    return preset(method.early_layers)


def at_depth(method: Method, own: Sequence[int], layers: int, depth: int | None) -> Sequence[int]:
    """Scoring layers of a model of `depth` layers, at the same depth of one of `layers`.

    What is kept in proportion is the number of layers that run before each stage; at least one
    does where one did, and no two stages are in one place.

    >>> from tokenlens.methods import find_method
    >>> at_depth(find_method("swiftvlm"), [3, 10, 13], 8, 28)
    [1, 4, 5]
    >>> at_depth(find_method("stride"), [0], 8, 28)
    [0]
    """
    if depth is None or depth == layers:
        return own
    found: list[int] = []
    for stage in method.stages(own):
        whole = stage.first_layer - 1
        after = stage.when == "after"
        least = max(min(whole, 1), found[-1] if found else 0)
        found.append(max(least, round(whole * layers / depth)) + (not after))
    return found
