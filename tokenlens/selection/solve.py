"""Solver from a budget to the keep ratio of every stage.

A budget is the number of visual tokens entering a layer, averaged over *all* layers, merged tokens
counted: at equal budget the methods cost (nearly) equal FLOPs. Or it is in MACs of the decoder's
prefill, scoring and merging included: then they cost the same. One share λ is solved for; each
method defines how the stages' keep ratios follow from it, by default λ, λ², ….
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Protocol

from tokenlens.errors import BudgetError
from tokenlens.schedule import BudgetNote, ModelRef, Schedule, Scorer, Stage
from tokenlens.schedule.budget import Budget, macs_text, parse_budget
from tokenlens.schedule.token_counts import keep_count, stage_tokens

__all__ = [
    "Budget",
    "MacsCounter",
    "RatioRule",
    "geometric",
    "macs_note",
    "needed",
    "parse_budget",
    "solve_budget",
    "solve_macs",
    "solved_schedule",
]

_RESOLUTION = 1e-9
"""Of the bisection: no two ratios that differ by less give different counts of any real sample."""
_TOLERANCE = 0.01
"""Share of a target that is near enough."""
_MOST_STEPS = 4000
"""Of the search for the nearest where bisection does not come near enough."""


class MacsCounter(Protocol):
    """Counts the MACs of stages in one decoder; made by `pruning.cost.decoder_macs`."""

    @property
    def text(self) -> int:
        """Text tokens of the prompt it counts for."""

    def macs(self, stages: Sequence[Stage], scorer: Scorer, n_visual: int) -> float:
        """MACs of a prefill, scoring and merging included; without stages, of the unpruned one."""


RatioRule = Callable[[Sequence[Stage], float], Sequence[Stage]]
"""Stages, and a share λ in [0, 1], to the same stages at that share: 1 keeps everything."""


def geometric(stages: Sequence[Stage], share: float, step: int = 1) -> list[Stage]:
    """Keep ratios λ, λ², λ³, … (PDrop, arXiv 2410.17247, and SwiftVLM); with step 2 λ, λ³, λ⁵.

    >>> stage = Stage(score_layer=2, when="after", keep=1.0, disposal="drop")
    >>> [stage.keep for stage in geometric([stage, stage], 0.5)]
    [0.5, 0.25]
    """
    return [
        stage.model_copy(update={"keep": share**power})
        for power, stage in zip(count(1, step), stages, strict=False)
    ]


def solve_budget(
    stages: Sequence[Stage],
    average: float,
    *,
    n_visual: int,
    layers: int,
    ratio_rule: RatioRule = geometric,
) -> tuple[Stage, ...]:
    """The same stages with keep ratios whose layer average is `average` tokens.

    Args:
        stages: stages in order of depth; their `keep` is ignored.
        average: visual tokens entering a layer, mean over all `layers`, for one sample.
        n_visual: visual tokens of that sample.
        layers: decoder layers of the model.
        ratio_rule: how the stages share the budget.

    Returns:
        Stages whose `stage_tokens` have a mean as near to `average` as their counts allow (within
        half a token where a step of λ changes every count by one at most), with the shortest ratios
        (three digits or more) that give those counts at `n_visual`.

    Raises:
        BudgetError: `average` is out of reach; the message gives the range.
    """

    def reached(found: Sequence[Stage]) -> float:
        return _average(found, n_visual, layers)

    def refuse(least: float, most: float) -> BudgetError:
        return BudgetError(
            f"budget: a layer average of {average:.4g} tokens ({average / n_visual:.1%} of "
            f"{n_visual}) is out of reach: with stages {_describe(stages)} of {layers} layers it "
            f"can be {least:.4g} to {most:.4g} tokens ({least / n_visual:.1%} to "
            f"{most / n_visual:.1%})"
        )

    return _solve(stages, average, reached, refuse, ratio_rule, n_visual)


def solve_macs(
    stages: Sequence[Stage],
    target: float,
    meter: MacsCounter,
    *,
    scorer: Scorer,
    n_visual: int,
    ratio_rule: RatioRule = geometric,
) -> tuple[Stage, ...]:
    """The same stages with keep ratios whose prefill takes `target` MACs.

    As `solve_budget`, but `target` is in multiply-accumulates, counted by `meter`.
    """

    def reached(found: Sequence[Stage]) -> float:
        return meter.macs(found, scorer, n_visual)

    def refuse(least: float, most: float) -> BudgetError:
        whole = meter.macs((), scorer, n_visual)
        return BudgetError(
            f"budget: {macs_text(target)} ({target / whole:.1%} of the unpruned prefill's "
            f"{macs_text(whole)}, {n_visual} visual and {meter.text} text tokens) is out of reach: "
            f"with stages {_describe(stages)} it can be {macs_text(least)} to {macs_text(most)} "
            f"({least / whole:.1%} to {most / whole:.1%})"
        )

    return _solve(stages, target, reached, refuse, ratio_rule, n_visual)


def _solve(
    stages: Sequence[Stage],
    target: float,
    reached: Callable[[Sequence[Stage]], float],
    refuse: Callable[[float, float], BudgetError],
    ratio_rule: RatioRule,
    n_visual: int,
) -> tuple[Stage, ...]:
    """Bisect λ until no counts lie between `low` and `high`, and take the nearer of them.

    Where the result is not near, tokens are few, and keeping one more may cost less (there may be
    one cluster fewer): then search the whole range of λ.
    """

    def at(share: float) -> float:
        return reached(ratio_rule(stages, share))

    def off(share: float) -> float:
        return abs(at(share) - target)

    low, high = sorted((0.0, 1.0), key=at)
    least, most = at(low), at(high)
    margin = 1e-9 * max(1.0, most)
    if not least - margin <= target <= most + margin:
        raise refuse(least, most)
    while abs(high - low) > _RESOLUTION:
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) <= target else (low, middle)
    nearest = min((low, high), key=off)
    if off(nearest) > _TOLERANCE * target:
        steps = min(_MOST_STEPS, 8 * n_visual)
        nearest = min((nearest, *(step / steps for step in range(steps + 1))), key=off)
    return tuple(
        stage
        if stage.keep == "none"
        else stage.model_copy(update={"keep": _ratio(keep_count(stage.keep, n_visual), n_visual)})
        for stage in ratio_rule(stages, nearest)
    )


def _average(stages: Sequence[Stage], n_visual: int, layers: int) -> float:
    return sum(stage_tokens(stages, n_visual, layers)) / layers


def _describe(stages: Sequence[Stage]) -> str:
    return ", ".join(f"{stage.when} {stage.score_layer} ({stage.disposal})" for stage in stages)


def _ratio(count: int, n_visual: int) -> float:
    """The shortest decimal ratio, of three digits or more, that keeps `count` of `n_visual`."""
    digits = 3
    while True:
        ratio = round(count / n_visual, digits)
        if ratio > 0 and keep_count(ratio, n_visual) == count:
            return ratio
        digits += 1


def solved_schedule(
    method: str,
    model: ModelRef,
    stages: Sequence[Stage],
    budget: Budget,
    *,
    n_visual: int,
    scorer: Scorer | None = None,
    ratio_rule: RatioRule = geometric,
    meter: MacsCounter | None = None,
) -> Schedule:
    """A schedule of these stages that meets `budget` on a sample of `n_visual` visual tokens.

    See `solve_budget` for `ratio_rule`. A budget in MACs needs a `meter` for the model, and is a
    `BudgetError` without one.
    """
    draft = Schedule(schema=1, method=method, model=model, scorer=scorer or Scorer(), stages=stages)
    if not budget.in_macs:
        average = budget.tokens(n_visual)
        solved = solve_budget(
            draft.stages, average, n_visual=n_visual, layers=model.layers, ratio_rule=ratio_rule
        )
        came_to = _average(solved, n_visual, model.layers)
        note = budget.note(n_visual, _unless_near(came_to, average, 1.0, budget.unit_of(n_visual)))
        return draft.replace(stages=solved, budget=note)
    meter = needed(meter, budget)
    whole = meter.macs((), draft.scorer, n_visual)
    target = budget.amount * budget.unit_of(whole)
    solved = solve_macs(
        draft.stages, target, meter, scorer=draft.scorer, n_visual=n_visual, ratio_rule=ratio_rule
    )
    average = round(_average(solved, n_visual, model.layers) / n_visual, 6)
    came_to = meter.macs(solved, draft.scorer, n_visual)
    return draft.replace(
        stages=solved, budget=macs_note(budget, meter, n_visual, average, came_to, whole)
    )


def needed(meter: MacsCounter | None, budget: Budget) -> MacsCounter:
    """The MACs counter for a budget in MACs; `BudgetError` where there is none."""
    if meter is None:
        raise BudgetError(
            f"budget: {budget} needs to know how wide the decoder is and how long its prompts are; "
            "give the loaded model instead of a description of it, or a budget in tokens"
        )
    return meter


def macs_note(
    budget: Budget, meter: MacsCounter, n_visual: int, average: float, came_to: float, whole: float
) -> BudgetNote:
    """The schedule's note of a budget in MACs.

    `average` is the layer average as a ratio, `came_to` the MACs that are reached, and `whole`
    those of the unpruned prefill.
    """
    unit = budget.unit_of(whole)
    return BudgetNote(
        average=average,
        n_visual=n_visual,
        macs=budget.amount if budget.is_share else round(budget.amount),
        n_text=meter.text,
        reached=_unless_near(came_to, budget.amount * unit, 0.0, unit),
    )


def _unless_near(came_to: float, target: float, slack: float, unit: float) -> float | None:
    """The value reached, in units, or None where it is within `slack` or 1 % of the target."""
    near = abs(came_to - target) <= max(slack, _TOLERANCE * target) + 1e-9
    return None if near else came_to / unit
