"""Published methods and baselines as presets of the one engine, a small file each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenlens.errors import BudgetError, ScheduleError
from tokenlens.pruning.methods.method import Method
from tokenlens.registry import METHODS
from tokenlens.schedule import BudgetNote, ModelRef, Schedule
from tokenlens.selection.budget import Budget, parse_budget, solved_schedule
from tokenlens.suggest import one_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tokenlens.models.vlm import VLM
    from tokenlens.pruning.meter import DecoderMeter

_NOMINAL_TOKENS = 576
"""Visual tokens of LLaVA-1.5, which the published token budgets are of."""
_NOMINAL_SIDE = 448


def find_method(name: str) -> Method:
    """The method called `name`; `ScheduleError` with the nearest names where there is none."""
    if name not in METHODS:
        raise ScheduleError(f"method: got {name!r}, expected {one_of(name, METHODS)}")
    method: Method = METHODS[name]
    return method


def _meter(model: "VLM | PreTrainedModel | ModelRef", n_text: int | None) -> "DecoderMeter | None":
    """What counts MACs in `model`; None where only its name and depth are known."""
    if isinstance(model, ModelRef):
        return None
    from tokenlens.pruning.meter import DecoderMeter

    return DecoderMeter.of(model, n_text)


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
    if method.smaller_picture:
        return _downsampled(name, model, reference, target, n_visual, layers)
    chosen = method.own_layers(reference.layers) if layers is None else layers
    return solved_schedule(
        name,
        reference,
        method.stages(chosen),
        target,
        n_visual=n_visual,
        scorer=method.scorer,
        spread=method.spread,
        meter=_meter(model, n_text) if target.in_macs else None,
    )


def _downsampled(
    name: str,
    model: "VLM | PreTrainedModel | ModelRef",
    reference: ModelRef,
    target: Budget,
    n_visual: int,
    layers: Sequence[int] | None,
) -> Schedule:
    """A smaller picture at a budget; the note says what a square one really comes to."""
    if layers is not None:
        raise ScheduleError(f"method {name!r} has no layers, got {list(layers)}; leave them out")
    tokens = target.tokens(n_visual)
    if not 1 <= tokens <= n_visual:
        raise BudgetError(
            f"budget: a layer average of {tokens:.4g} tokens ({tokens / n_visual:.1%} of "
            f"{n_visual}) is out of reach: with a smaller picture it can be 1 to {n_visual} tokens "
            f"({1 / n_visual:.1%} to 100.0%)"
        )
    share, note = tokens / n_visual, target.note(n_visual)
    full, reached = _picture_tokens(model), _picture_tokens(model, share)
    if full and reached:
        note = BudgetNote(average=round(reached / full, 4), n_visual=n_visual)
    return Schedule(schema=1, method=name, model=reference, picture=share, stages=(), budget=note)


def _picture_tokens(
    model: "VLM | PreTrainedModel | ModelRef", share: float | None = None
) -> int | None:
    """Visual tokens of a square picture at a share of its own size.

    None for a model that came without a processor.
    """
    from PIL import Image

    from tokenlens.models.structure import visual_mask
    from tokenlens.models.vlm import VLM

    if not isinstance(model, VLM) or model.processor is None:
        return None
    inputs = model.prepare(Image.new("RGB", (_NOMINAL_SIDE, _NOMINAL_SIDE)), "", picture=share)
    return int(visual_mask(model.model, inputs["input_ids"]).sum())
