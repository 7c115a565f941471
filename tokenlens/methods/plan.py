"""From a profile to a schedule: layer scores, the chosen layers and why, the keep ratios."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tokenlens.errors import SelectionError
from tokenlens.methods.plan_notes import BEST_LAYER, plan_notes
from tokenlens.methods.swiftvlm_stages import MERGE, swiftvlm_stages
from tokenlens.schedule import ModelRef, Schedule, Why
from tokenlens.selection.criteria import (
    Capability,
    Evidence,
    gather_evidence,
    layer_scores,
)
from tokenlens.selection.layer_choice import LayerChoice, choose_layers
from tokenlens.selection.layers import FIRST_LAYER, area, feasible_layers
from tokenlens.selection.solve import Budget, MacsCounter, parse_budget, solved_schedule
from tokenlens.storage.invocation import current_command
from tokenlens.wording import cautions
from tokenlens.wording.printable import shown

if TYPE_CHECKING:
    from tokenlens.probing.profile import Profile

UNPRUNED_SCORE = "the unpruned model's score"
"""What a layer's score is relative to."""


@dataclass(frozen=True)
class LayerVerdict:
    """One layer of the table.

    Attributes:
        layer: counted from 1.
        score: the capability x_i, 1 for a layer that is the best in every task; by re-runs, 1 for
            one whose choice of tokens loses nothing.
        low: low end of its 95 % bootstrap interval.
        high: high end.
        feasible: whether it scores above every earlier layer from 3 on.
        chosen: whether it is a stage.
        reason: why it is not chosen; empty where it is.
    """

    layer: int
    score: float
    low: float
    high: float
    feasible: bool
    chosen: bool
    reason: str


@dataclass(frozen=True)
class RejectedPair:
    """Two feasible layers that may not follow each other: they rank tokens too much alike."""

    first: int
    second: int
    correlation: float


@dataclass(frozen=True)
class Selection:
    """What was chosen, from what, and the schedule that comes of it.

    Attributes:
        criterion: name of the criterion.
        verdicts: one per layer.
        layers: the chosen layers, counted from 1.
        area: their area under the step function of scores.
        rejected: pairs of feasible layers that rank tokens too much alike.
        correlation: float64 [layers, layers], mean rank correlation.
        samples: per task, how many samples were scored by.
        tokens_per_layer: visual tokens entering each layer, for `n_visual` of them.
        n_visual: visual tokens per sample the budget was solved for (the rounded mean).
        schedule: ready to be saved.
        notes: what a reader should know, one sentence each.
        cautions: what the samples cannot tell (`tokenlens.wording.cautions`), one sentence each.
    """

    criterion: str
    verdicts: tuple[LayerVerdict, ...]
    layers: tuple[int, ...]
    area: float
    rejected: tuple[RejectedPair, ...]
    correlation: NDArray[np.float64]
    samples: dict[str, int]
    tokens_per_layer: tuple[int, ...]
    n_visual: int
    schedule: Schedule
    notes: tuple[str, ...]
    cautions: tuple[str, ...] = ()

    @property
    def average(self) -> float:
        """Visual tokens entering a layer, mean over layers."""
        return float(np.mean(self.tokens_per_layer))


def plan(
    profile: "Profile",
    *,
    stages: int = 3,
    criterion: str | Capability = "region",
    budget: Budget | str | int | float = "33%",
    max_correlation: float = 0.9,
    merge: int | float = MERGE,
    seed: int = 0,
    meter: Callable[[ModelRef], MacsCounter] | None = None,
) -> Selection:
    """Choose layers by a profile and make the SwiftVLM schedule that meets the budget.

    The layers with the largest area may begin so deep that the full layers before them cost more
    than the budget. Then the largest area among earlier starts is taken, with a note; the paper,
    whose first stage is at layer 3 of 32, does not meet this case.

    Args:
        profile: importance and regions; read once, one sample in memory at a time.
        stages: pruning layers wanted; where fewer can be chosen, as many as can be, with a note.
        criterion: one of `tokenlens.selection.criteria.CRITERIA`, or the capability that
            `tokenlens.evaluation.capability` measured on the profile's model.
        budget: visual tokens entering a layer, mean over layers, or MACs of the prefill; see
            `parse_budget`.
        max_correlation: two consecutive chosen layers rank tokens at most this much alike.
        merge: merged tokens: a ratio of the tokens set aside, or a count; 0 for none.
        seed: of the bootstrap.
        meter: makes what counts MACs in the profile's model, for a budget in MACs alone; by
            default the model is found by its name, without its weights.

    Raises:
        SelectionError: no layer can be chosen at all, no sample has a region, or the capability is
            of another number of layers.
        BudgetError: no choice of layers can meet the budget; the message says what the earliest
            start can.
    """
    target = parse_budget(budget)
    identity = profile.manifest["identity"]
    depth = identity["model"]["layers"]
    if isinstance(stages, int) and stages > depth:
        raise SelectionError(
            f"stages: got {shown(stages)}, expected at most {depth - FIRST_LAYER + 1}: of the "
            f"model's {depth} layers the first two are never chosen"
        )
    model = ModelRef(**{key: identity["model"][key] for key in ModelRef.model_fields})
    evidence = gather_evidence(profile.rows(), criterion)
    interval = np.stack(layer_scores(evidence.scores, evidence.whole, seed=seed))
    scores = interval[0].tolist()
    n_visual = round(float(evidence.n_visual.mean()))
    counting = (meter or _counter_by_name)(model) if target.in_macs else None

    def solve(layers: Sequence[int]) -> Schedule:
        stages = swiftvlm_stages(layers, merge)
        return solved_schedule("swiftvlm", model, stages, target, n_visual=n_visual, meter=counting)

    measured = criterion if isinstance(criterion, Capability) else None
    name = criterion if isinstance(criterion, str) else criterion.criterion
    choice = choose_layers(scores, stages, evidence.correlation, max_correlation, solve)
    layers = choice.layers
    recorded = (identity.get("options") or {}).get("importance", "attention")
    data = identity["data"]
    said = (
        *cautions.on_left_out(data.get("text_only", 0), data["samples"]),
        *_cautions(evidence, interval, layers),
        *cautions.on_importance(recorded),
    )
    why = _why(name, scores, data, measured, said)
    schedule = choice.schedule.replace(why=why)
    feasible = feasible_layers(scores)
    rejected = _too_alike(feasible, evidence.correlation, max_correlation)
    return Selection(
        criterion=name,
        verdicts=_verdicts(interval, feasible, choice, rejected),
        layers=tuple(layers),
        area=area(scores, layers),
        rejected=rejected,
        correlation=evidence.correlation,
        samples={task: len(values) for task, values in evidence.scores.items()},
        tokens_per_layer=tuple(schedule.tokens_entering(n_visual, model.layers)),
        n_visual=n_visual,
        schedule=schedule,
        notes=(*choice.notes, *plan_notes(evidence, measured, target, schedule, n_visual)),
        cautions=said,
    )


def _why(
    criterion: str,
    scores: Sequence[float],
    data: Mapping[str, Any],
    measured: Capability | None,
    said: tuple[str, ...],
) -> Why:
    """Where the schedule comes from; `data` is the profile's, and `measured` of re-runs if any."""
    return Why(
        criterion=criterion,
        scores=tuple(scores),
        relative_to=UNPRUNED_SCORE if measured else BEST_LAYER,
        data=measured.data if measured else data["source"],
        split=_split(data, measured),
        tokenlens=version("tokenlens"),
        date=datetime.now(UTC).date().isoformat(),
        command=current_command(),
        cautions=said or None,
    )


def _split(data: Mapping[str, Any], measured: Capability | None) -> str | None:
    """The split of the data that layers were chosen on, where it is known."""
    own = measured is None or measured.data == data["source"]
    return data["split"] if own else None


def _cautions(
    evidence: Evidence, interval: NDArray[np.float64], layers: Sequence[int]
) -> list[str]:
    """What the samples cannot tell of the layers; `interval` is mean, low and high [3, layers]."""
    mean, low, high = interval.tolist()
    counts = {task: len(values) for task, values in evidence.scores.items()}
    flat = [f"layer {layer}" for layer in layers if low[layer - 1] == high[layer - 1]]
    return [
        *cautions.on_no_scores(mean[FIRST_LAYER - 1 :]),
        *cautions.on_few(counts),
        *cautions.on_pictures(evidence.images),
        *cautions.on_whole_regions(evidence.whole_regions, sum(counts.values())),
        *cautions.on_flat_intervals(flat),
        *cautions.on_overlap(layers, low, high, FIRST_LAYER),
    ]


def _too_alike(
    feasible: Sequence[int], correlation: NDArray[np.float64], limit: float
) -> tuple[RejectedPair, ...]:
    return tuple(
        RejectedPair(first, second, float(correlation[first - 1, second - 1]))
        for first in feasible
        for second in feasible
        if first < second and correlation[first - 1, second - 1] > limit
    )


def _counter_by_name(model: ModelRef) -> MacsCounter:
    """What counts MACs in the profile's model; it reads the model's configuration."""
    from tokenlens.pruning.cost.decoder_macs import decoder_macs_of

    return decoder_macs_of(model)


def _verdicts(
    interval: NDArray[np.float64],
    feasible: Sequence[int],
    choice: LayerChoice,
    rejected: Sequence[RejectedPair],
) -> tuple[LayerVerdict, ...]:
    """What is said of every layer, by its score and the ends of its interval: [3, layers]."""
    scores = interval[0].tolist()
    return tuple(
        LayerVerdict(
            layer=layer,
            score=score,
            low=low,
            high=high,
            feasible=layer in feasible,
            chosen=layer in choice.layers,
            reason=_reason(layer, scores, feasible, choice, rejected),
        )
        for layer, (score, low, high) in enumerate(interval.T.tolist(), start=1)
    )


def _reason(
    layer: int,
    scores: Sequence[float],
    feasible: Sequence[int],
    choice: LayerChoice,
    rejected: Sequence[RejectedPair],
) -> str:
    layers = choice.layers
    if layer in layers:
        return ""
    if layer < FIRST_LAYER:
        return "the first two layers are never chosen"
    if layer not in feasible:
        best = max(range(FIRST_LAYER, layer), key=lambda earlier: scores[earlier - 1])
        return f"does not score above layer {best}"
    for pair in rejected:
        if layer in (pair.first, pair.second) and (pair.first in layers or pair.second in layers):
            other = pair.first if layer == pair.second else pair.second
            return f"ranks tokens like layer {other} (correlation {pair.correlation:.2f})"
    if layer in choice.wanted:
        return "would be chosen if the budget could be met with it"
    if layer == layers[0] + 1:
        return f"follows layer {layers[0]}, whose choice would act on no layer"
    return "the chosen layers have the larger area"
