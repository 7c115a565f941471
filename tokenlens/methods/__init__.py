"""Published methods and baselines as presets of the one engine, a small file each."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from tokenlens.errors import BudgetError, ScheduleError
from tokenlens.methods.method import Method
from tokenlens.methods.smaller_picture import smaller_picture
from tokenlens.registry import METHODS
from tokenlens.schedule import ModelRef, Schedule
from tokenlens.selection.solve import Budget, parse_budget, solved_schedule
from tokenlens.wording.suggest import one_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tokenlens.models.vlm import VLM
    from tokenlens.pruning.cost.decoder_macs import DecoderMacs

_NOMINAL_TOKENS = 576
"""Visual tokens of LLaVA-1.5, which the published token budgets are of."""


def find_method(name: str) -> Method:
    """The method called `name`; `ScheduleError` with the nearest names where there is none."""
    if name not in METHODS:
        raise ScheduleError(f"method: got {name!r}, expected {one_of(name, METHODS)}")
    method: Method = METHODS[name]
    return method


def _meter(model: "VLM | PreTrainedModel | ModelRef", n_text: int | None) -> "DecoderMacs | None":
    """What counts MACs in `model`; None where only its name and depth are known."""
    if isinstance(model, ModelRef):
        return None
    from tokenlens.pruning.cost.decoder_macs import DecoderMacs

    return DecoderMacs.of(model, n_text)


def build(
    name: str,
    model: "VLM | PreTrainedModel | ModelRef",
    *,
    budget: Budget | str | int | float,
    layers: Sequence[int] | None = None,
    n_visual: int | None = None,
    n_text: int | None = None,
) -> Schedule:
    """The schedule of a method; see `Schedule.preset`."""
    method, target = find_method(name), parse_budget(budget)
    reference = model if isinstance(model, ModelRef) else ModelRef.of(model)
    if n_visual is None:
        n_visual = _picture_tokens(model) or _NOMINAL_TOKENS
    meter = _meter(model, n_text) if target.in_macs else None
    if method.smaller_picture:
        if layers is not None:
            raise ScheduleError(
                f"method {name!r} has no layers, got {list(layers)}; leave them out"
            )
        square = partial(_picture_tokens, model)
        return smaller_picture(name, reference, target, n_visual, meter, square)
    chosen = method.own_layers(reference.layers) if layers is None else layers
    return solved_schedule(
        name,
        reference,
        method.stages(chosen),
        target,
        n_visual=n_visual,
        scorer=method.scorer,
        ratio_rule=method.ratio_rule,
        meter=meter,
    )


def build_or_earlier(
    name: str,
    model: "VLM | PreTrainedModel | ModelRef",
    *,
    budget: Budget,
    layers: Sequence[int] | None = None,
    n_visual: int | None = None,
) -> tuple[Schedule, Sequence[int] | None]:
    """The schedule of a method, by the layers published for small budgets where it needs them.

    Those layers are the second value; it is None where the method's own, or `layers`, meet the
    budget. Raises as `Schedule.preset`.
    """
    try:
        return build(name, model, budget=budget, layers=layers, n_visual=n_visual), None
    except BudgetError:
        earlier = find_method(name).early_layers
        if earlier is None:
            raise
    depth = (model if isinstance(model, ModelRef) else ModelRef.of(model)).layers
    early = earlier(depth)
    return build(name, model, budget=budget, layers=early, n_visual=n_visual), early


def _picture_tokens(
    model: "VLM | PreTrainedModel | ModelRef", share: float | None = None
) -> int | None:
    """Visual tokens of a square picture at a share of its own size.

    None for a model that came without a processor.
    """
    from tokenlens.models.prompt_lengths import typical_prompt
    from tokenlens.models.vlm import VLM

    if not isinstance(model, VLM) or model.processor is None:
        return None
    return typical_prompt(model, picture=share).visual
