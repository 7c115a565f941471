"""The space of schedules: conversion of a few parameters to stages, and back where possible."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from tokenlens.errors import TokenlensError
from tokenlens.models.adapters import required_tower
from tokenlens.models.vlm import VLM
from tokenlens.pruning.cost.decoder_macs import DecoderMacs
from tokenlens.registry import DISPOSALS
from tokenlens.schedule import ModelRef, Schedule, Scorer, Stage
from tokenlens.schedule.budget import Budget
from tokenlens.schedule.disposal_kinds import disposal_kind
from tokenlens.schedule.notes import TUNED
from tokenlens.selection.solve import solved_schedule

MOST_STAGES = 3
_DISPOSALS = ("drop", "merge", "bypass", "freeze")
_MERGES = (0.0, 0.05, 0.1, 0.2)
_SCORERS = {
    "last": Scorer(),
    "text": Scorer(query="text"),
    "unrotated": Scorer(rotary=False, softmax="visual"),
    "strong heads": Scorer(heads=0.5),
    "uniform": Scorer(query="uniform"),
    "diverse": Scorer(query="diverse"),
    "vision": Scorer(query="vision"),
}
"""Scorers by the parameter's value."""
_UNATTENDED = {"uniform", "diverse", "vision"}
"""Scorers that read no attention of the decoder and can score before its first layer."""
_LEAST_POWER, _MOST_POWER = 0.25, 6.0


class Suggesting(Protocol):
    """Interface that proposes a value for every parameter: an Optuna trial."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """A whole number."""

    def suggest_float(self, name: str, low: float, high: float) -> float:
        """A number."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of several."""


@dataclass(frozen=True)
class Draft:
    """Stages with a keep ratio of 1, the power of each, and the budget that λ is solved for."""

    stages: tuple[Stage, ...]
    powers: tuple[float, ...]
    budget: Budget


@dataclass(frozen=True)
class Space:
    """Schedules of one to three stages for one model.

    A stage has the first layer that runs on fewer tokens, a scorer, a disposal and a power p; it
    keeps λ^p of the tokens, and λ is solved for the budget. The first stage's power is 1.

    Attributes:
        model: model of the schedules.
        meter: counts MACs of the model, for prompts of a given number of text tokens.
        n_visual: number of visual tokens of the prompt that budgets are solved for.
        budgets: budgets that schedules are solved for; the parameter `budget` is an index into
            them.
        disposals: disposals to choose from.
        scorers: scorers to choose from.
        favour: number of extra values of `budget` that mean the first budget.
        deepest: deepest layer that can be the first on fewer tokens within the first budget.
    """

    model: ModelRef
    meter: DecoderMacs
    n_visual: int
    budgets: tuple[Budget, ...]
    disposals: tuple[str, ...]
    scorers: tuple[str, ...]
    favour: int
    deepest: int

    @classmethod
    def of(
        cls, vlm: VLM, budgets: Sequence[Budget], favour: int = 0, n_visual: int | None = None
    ) -> "Space":
        """The space for a model; the vision tower is a scorer only where it can be read.

        Budgets are solved for `n_visual` visual tokens; None takes those of a square picture.
        """
        meter = DecoderMacs.of(vlm)
        n_visual = n_visual or meter.prompt.visual
        scorers = [name for name in _SCORERS if name != "vision" or _has_tower(vlm)]
        disposals = [name for name in _DISPOSALS if name in DISPOSALS]
        return cls(
            ModelRef.of(vlm),
            meter,
            n_visual,
            tuple(budgets),
            tuple(disposals),
            tuple(scorers),
            favour,
            _deepest(ModelRef.of(vlm), meter, budgets[0], n_visual),
        )

    def draft(self, trial: Suggesting) -> Draft:
        """The stages that `trial` suggests, and their budget."""
        drawn = trial.suggest_int("budget", 0, len(self.budgets) - 1 + self.favour)
        budget = self.budgets[max(0, drawn - self.favour)]
        count = trial.suggest_int("stages", 1, MOST_STAGES)
        merge = trial.suggest_categorical("merge", _MERGES)
        firsts, powers, parts = [0], [], []
        for place in range(1, count + 1):
            first = firsts[-1] + trial.suggest_int(f"layer {place}", 1, self._span(place))
            scorer = trial.suggest_categorical(f"scorer {place}", self.scorers)
            disposal = trial.suggest_categorical(f"disposal {place}", self.disposals)
            power = 1.0
            if place > 1:
                power = trial.suggest_float(f"power {place}", _LEAST_POWER, _MOST_POWER)
            if first > self.model.layers:
                break
            firsts.append(first)
            powers.append(power)
            parts.append((scorer, disposal))
        stages = [
            _stage(first, *part, merge, place == 0, place == len(parts) - 1)
            for place, (first, part) in enumerate(zip(firsts[1:], parts, strict=True))
        ]
        return Draft(tuple(stages), tuple(powers), budget)

    def solve(self, draft: Draft) -> Schedule:
        """The schedule of a draft. Raises `BudgetError` where it cannot meet the budget."""
        return solved_schedule(
            TUNED,
            self.model,
            draft.stages,
            draft.budget,
            n_visual=self.n_visual,
            ratio_rule=partial(_by_powers, powers=draft.powers),
            meter=self.meter,
        )

    def used(self, schedule: Schedule) -> float:
        """Share of the largest budget that a schedule uses on the prompt it is solved for."""
        return _used(schedule, self.meter, self.budgets[0], self.n_visual)

    def parameters(self, schedule: Schedule, budget: Budget) -> dict[str, Any]:
        """Parameters that give nearly this schedule; empty where it is not in the space."""
        stages = schedule.stages
        if not 0 < len(stages) <= MOST_STAGES or schedule.image_scale is not None:
            return {}
        if budget not in self.budgets:
            return {}
        merges = [stage.merge for stage in stages if stage.merge] or [0.0]
        found: dict[str, Any] = {
            "budget": drawn + self.favour if (drawn := self.budgets.index(budget)) else 0,
            "stages": len(stages),
            "merge": float(merges[0]),
        }
        before = 0
        for place, stage in enumerate(stages, start=1):
            found[f"layer {place}"] = stage.first_layer - before
            found[f"scorer {place}"] = _name_of(schedule.scorer_of(stage))
            found[f"disposal {place}"] = stage.disposal
            if place > 1:
                found[f"power {place}"] = _power(stage, stages[0])
            before = stage.first_layer
        return found if self._holds(found, stages) else {}

    def _span(self, place: int) -> int:
        """Greatest distance in layers between the first layers of two consecutive stages."""
        return self.deepest if place == 1 else max(1, self.model.layers // 2)

    def _holds(self, found: Mapping[str, Any], stages: Sequence[Stage]) -> bool:
        """Whether every parameter is in its range and the parameters determine the stages."""
        plain = all(stage.stride is None and stage.positions == "keep" for stage in stages)
        return (
            plain
            and found["merge"] in _MERGES
            and all(
                (name[:5] != "power" or value is not None)
                and (name[:6] != "scorer" or value in self.scorers)
                and (name[:8] != "disposal" or value in self.disposals)
                and (name[:5] != "layer" or value <= self._span(int(name[-1])))
                for name, value in found.items()
            )
        )


def _stage(
    first: int, scorer: str, disposal: str, merge: float, is_first: bool, is_last: bool
) -> Stage:
    """A stage with a keep ratio of 1; the last one has no bypass unless tokens stay readable."""
    kind = disposal_kind(disposal)
    if is_last and kind.returns and not kind.readable:
        disposal, kind = "drop", disposal_kind("drop")
    after = is_first and (first > 1 or scorer in _UNATTENDED)
    return Stage(
        score_layer=first - after,
        when="after" if after else "before",
        keep=1.0,
        disposal=disposal,
        merge=merge if kind.settable else 0,
        scorer=None if scorer == "last" else _SCORERS[scorer],
    )


def _used(schedule: Schedule, meter: DecoderMacs, budget: Budget, n_visual: int) -> float:
    """Share of a budget that a schedule uses on a prompt of `n_visual` visual tokens."""
    layers = schedule.model.layers
    if budget.in_macs:
        whole = meter.macs((), schedule.scorer, n_visual)
        shown = schedule.shown_tokens(n_visual)
        came_to = meter.macs(schedule.stages, schedule.scorer, shown)
    else:
        whole = float(n_visual)
        came_to = sum(schedule.tokens_entering(n_visual, layers)) / layers
    return came_to / (budget.amount * budget.unit_of(whole))


def _deepest(model: ModelRef, meter: DecoderMacs, budget: Budget, n_visual: int) -> int:
    """The deepest layer before which removal of all tokens but one still meets the budget."""
    found = 1
    for layer in range(1, model.layers + 1):
        stage = Stage(
            score_layer=layer - 1,
            when="after",
            keep=1,
            disposal="drop",
            scorer=_SCORERS["uniform"],
        )
        schedule = Schedule(schema=1, method=TUNED, model=model, stages=[stage])
        if _used(schedule, meter, budget, n_visual) > 1:
            break
        found = layer
    return found


def _by_powers(stages: Sequence[Stage], share: float, powers: Sequence[float]) -> list[Stage]:
    return [
        stage.model_copy(update={"keep": share**power})
        for stage, power in zip(stages, powers, strict=True)
    ]


def _power(stage: Stage, first: Stage) -> float | None:
    """The power of a stage's keep ratio relative to the first one's; None where out of range."""
    if not isinstance(stage.keep, float) or not isinstance(first.keep, float):
        return None
    if not stage.keep < 1 or not first.keep < 1:
        return None
    power = math.log(stage.keep) / math.log(first.keep)
    return power if _LEAST_POWER <= power <= _MOST_POWER else None


def _name_of(scorer: Scorer) -> str | None:
    return next((name for name, known in _SCORERS.items() if known == scorer), None)


def _has_tower(vlm: VLM) -> bool:
    try:
        required_tower(vlm.model)
    except TokenlensError:
        return False
    return True
