"""What a preset is made of, and how it is fitted to a model and a budget."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import index
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from tokenlens.errors import BudgetError, ScheduleError
from tokenlens.methods.smaller_picture import smaller_picture
from tokenlens.schedule import ModelRef, Schedule, Scorer, Stage
from tokenlens.schedule.budget import Budget, parse_budget
from tokenlens.schedule.layer_needs import LayerNeeds
from tokenlens.selection.candidate_paths import least_loss
from tokenlens.selection.layer_modes import readable_cost
from tokenlens.selection.solve import MacsCounter, RatioRule, geometric, solved_schedule
from tokenlens.storage.json_files import one_line
from tokenlens.wording.printable import shown

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tokenlens.models.vlm import VLM

_NOMINAL_TOKENS = 576
"""Visual tokens of LLaVA-1.5, which the published token budgets are of."""


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
        layers_from: where a comparison takes the layers from: "own" layers, the same in every
            model; the own ones "spread" over the model's depth; a "profile" of the model, the own
            ones only where there is none; or its "information" profile, likewise.
        by_needs: in place of `ratio_rule`, what makes some of the model's needs (see `LayerNeeds`),
            by name, and of the MACs of a readable token beside an updated one (None where the
            budget counts updated tokens alone). Of these the one is taken that loses least by the
            needs' `paths`; the first where nothing was measured.
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
    layers_from: Literal["own", "spread", "profile", "information"] = "own"
    by_needs: Callable[[LayerNeeds, float | None], Mapping[str, RatioRule]] | None = None

    def build(
        self,
        model: "VLM | PreTrainedModel | ModelRef",
        *,
        budget: Budget | str | int | float,
        layers: Sequence[int] | None = None,
        n_visual: int | None = None,
        n_text: int | None = None,
        needs: LayerNeeds | None = None,
    ) -> Schedule:
        """The schedule of the method; see `Schedule.preset`."""
        wanted = parse_budget(budget)
        layers = None if layers is None else _whole_numbers(layers)
        reference = model if isinstance(model, ModelRef) else ModelRef.of(model)
        if n_visual is None:
            n_visual = _picture_tokens(model) or _NOMINAL_TOKENS
        counter = _macs_counter(model, n_text) if wanted.in_macs else None
        if self.smaller_picture:
            if layers is not None:
                raise ScheduleError(
                    f"method {self.name!r} has no layers, got {list(layers)}; leave them out"
                )
            square = partial(_picture_tokens, model)
            return smaller_picture(self.name, reference, wanted, n_visual, counter, square)

        def solved(stages: Sequence[Stage], rule: RatioRule) -> Schedule:
            return solved_schedule(
                self.name,
                reference,
                stages,
                wanted,
                n_visual=n_visual,
                scorer=self.scorer,
                ratio_rule=rule,
                meter=counter,
            )

        if self.by_needs is not None:
            needs = _checked_needs(model, reference, needs, layers)
            paths = self.by_needs(needs, readable_cost(counter, reference.layers, n_visual))
            share = _macs_share(model, wanted, n_visual, n_text) if needs.paths else 1.0
            return least_loss(needs, paths, solved, share)
        if needs is not None:
            raise ScheduleError(f"method {self.name!r} does not go by needs; leave them out")
        try:
            stages = self.stages(self.own_layers(reference.layers) if layers is None else layers)
        except ValidationError as error:
            raise ScheduleError(f"layers: got {layers}; {one_line(error, Stage)}") from None
        return solved(stages, self.ratio_rule)

    def build_or_earlier(
        self,
        model: "VLM | PreTrainedModel | ModelRef",
        *,
        budget: Budget,
        layers: Sequence[int] | None = None,
        n_visual: int | None = None,
        n_text: int | None = None,
        depth: int | None = None,
    ) -> tuple[Schedule, Sequence[int] | None]:
        """The schedule, by the layers published for small budgets where it needs them.

        Those layers are the second value; it is None where the method's own, or `layers`, meet the
        budget. `depth` is the number of layers of the model that `model` stands for, at whose
        relative depth the published layers are taken; None where it stands for itself. Raises as
        `Schedule.preset`.
        """
        here = (model if isinstance(model, ModelRef) else ModelRef.of(model)).layers
        build = partial(self.build, model, budget=budget, n_visual=n_visual, n_text=n_text)
        fixed = self.by_needs is None and not self.smaller_picture
        if depth is not None and layers is None and fixed:
            layers = self.at_depth(self.own_layers(depth), here, depth)
        try:
            return build(layers=layers), None
        except BudgetError:
            if self.early_layers is None:
                raise
        whole = here if depth is None else depth
        early = self.at_depth(self.early_layers(whole), here, whole)
        return build(layers=early), early

    def at_depth(self, scoring: Sequence[int], layers: int, depth: int) -> Sequence[int]:
        """Scoring layers of a model of `depth` layers, at the same depth of one of `layers`.

        What is kept in proportion is the number of layers that run before each stage; at least one
        does where one did, and no two stages are in one place.
        """
        if depth == layers:
            return scoring
        before, found = -1, []
        for stage in self.stages(scoring):
            whole = stage.first_layer - 1
            before = max(min(whole, 1), before + 1, round(whole * layers / depth))
            found.append(before + (stage.when == "before"))
        return found


def _whole_numbers(layers: Sequence[int]) -> list[int]:
    """Layers as plain integers, numpy's among them; `ScheduleError` for anything else."""
    try:
        found = [index(layer) for layer in layers if not isinstance(layer, bool)]
        if len(found) == len(layers):
            return found
    except TypeError:
        pass
    raise ScheduleError(
        f"layers: got {shown(layers)}, expected whole numbers, counted from 1, such as [3, 11, 15]"
    )


def _checked_needs(
    model: "VLM | PreTrainedModel | ModelRef",
    reference: ModelRef,
    needs: LayerNeeds | None,
    layers: Sequence[int] | None,
) -> LayerNeeds:
    """The needs of a model: as measured, or as assumed; where it adds features, to be updated."""
    if needs is not None and layers is not None:
        raise ScheduleError("layers and needs do not go together; give one of them")
    if needs is None:
        needs = LayerNeeds.assumed(reference.layers, layers)
    elif needs.layers != reference.layers:
        raise ScheduleError(
            f"needs: got those of {needs.layers} layers, the model has {reference.layers}; measure "
            "them on this model"
        )
    if isinstance(model, ModelRef):
        return needs
    from tokenlens.models.structure import deepstack_layers, unwrap

    return needs.updated_up_to(deepstack_layers(unwrap(model)))


def _macs_counter(
    model: "VLM | PreTrainedModel | ModelRef", n_text: int | None
) -> MacsCounter | None:
    """What counts MACs in `model`; None where only its name and depth are known."""
    if isinstance(model, ModelRef):
        return None
    from tokenlens.pruning.cost.decoder_macs import DecoderMacs

    return DecoderMacs.of(model, n_text)


def _macs_share(
    model: "VLM | PreTrainedModel | ModelRef", budget: Budget, n_visual: int, n_text: int | None
) -> float | Callable[[Schedule], float]:
    """The share of the unpruned MACs that a budget comes to, or that a schedule of it takes.

    1 where only the model's name and depth are known.
    """
    meter = _macs_counter(model, n_text)
    if meter is None:
        return 1.0
    whole = meter.macs((), Scorer(), n_visual)
    if budget.in_macs:
        return float(budget.amount * budget.unit_of(whole) / whole)
    return lambda schedule: meter.macs(schedule.stages, schedule.scorer, n_visual) / whole


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
    return typical_prompt(model, image_scale=share).visual
