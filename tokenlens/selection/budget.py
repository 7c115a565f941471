"""From a budget to the keep ratio of every stage.

A budget is the number of visual tokens entering a layer, averaged over *all* layers, merged tokens
counted: at equal budget the methods cost (nearly) equal FLOPs. One share λ is solved for; how the
stages' keep ratios follow from it is a method's own, and λ, λ², … unless it says otherwise.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from numbers import Integral, Real
from typing import Literal

from tokenlens.errors import BudgetError
from tokenlens.schedule import BudgetNote, ModelRef, Schedule, Scorer, Stage
from tokenlens.token_counts import keep_count, stage_tokens

_RESOLUTION = 1e-9
"""Of the bisection: no two ratios that differ by less give different counts of any real sample."""


@dataclass(frozen=True)
class Budget:
    """A target for the layer average: `amount` is a ratio in (0, 1], or a number of tokens."""

    amount: float
    unit: Literal["ratio", "tokens"]

    def tokens(self, n_visual: int) -> float:
        """The target in tokens, for a sample with `n_visual` visual tokens."""
        return self.amount * n_visual if self.unit == "ratio" else self.amount

    def note(self, n_visual: int) -> BudgetNote:
        """What the schedule says of it."""
        whole = self.unit == "tokens" and self.amount == int(self.amount)
        return BudgetNote(average=int(self.amount) if whole else self.amount, n_visual=n_visual)

    def __str__(self) -> str:
        return f"{100 * self.amount:g} %" if self.unit == "ratio" else f"{self.amount:g} tokens"


_MOST_TOKENS = 1e15


def parse_budget(value: Budget | str | int | float) -> Budget:
    """Read a budget: a percentage, a ratio (up to 1, with a decimal point), or tokens.

    Raises `BudgetError` for anything else.

    >>> parse_budget("33%"), parse_budget(0.33), parse_budget("48"), parse_budget("48.5 tokens")
    ... # doctest: +NORMALIZE_WHITESPACE
    (Budget(amount=0.33, unit='ratio'), Budget(amount=0.33, unit='ratio'),
     Budget(amount=48.0, unit='tokens'), Budget(amount=48.5, unit='tokens'))
    """
    if isinstance(value, Budget):
        return value
    budget = _read(value) if isinstance(value, str) else _as_budget(value)
    if budget is None or not 0 < budget.amount <= (1 if budget.unit == "ratio" else _MOST_TOKENS):
        raise BudgetError(
            f"budget: got {str(value)!r}, expected a share of the visual tokens above 0 % and up "
            "to 100 % such as '33%' or '0.33', or a number of them such as '48' or '48 tokens'"
        )
    return budget


def _read(text: str) -> Budget | None:
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(%|tokens?)?", text.strip())
    if match is None:
        return None
    if match[2] is None:
        return _as_budget(float(match[1]) if "." in match[1] else int(match[1]))
    if match[2] == "%":
        return Budget(float(match[1]) / 100, "ratio")
    return Budget(float(match[1]), "tokens")


def _as_budget(number: object) -> Budget | None:
    if isinstance(number, bool) or not isinstance(number, Real) or not number < _MOST_TOKENS:
        return None
    counted = isinstance(number, Integral) or float(number) > 1
    return Budget(float(number), "tokens" if counted else "ratio")


Spread = Callable[[Sequence[Stage], float], Sequence[Stage]]
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
    spread: Spread = geometric,
) -> tuple[Stage, ...]:
    """The same stages with keep ratios whose layer average is `average` tokens.

    Args:
        stages: stages in order of depth; their `keep` is ignored.
        average: visual tokens entering a layer, mean over all `layers`, for one sample.
        n_visual: visual tokens of that sample.
        layers: decoder layers of the model.
        spread: how the stages share the budget.

    Returns:
        Stages whose `stage_tokens` average to `average` within half a token, with the shortest
        ratios (three digits or more) that give those counts at `n_visual`.

    Raises:
        BudgetError: `average` is out of reach; the message says what is within.
    """

    def reached(ratio: float) -> float:
        return sum(stage_tokens(spread(stages, ratio), n_visual, layers)) / layers

    low, high = 0.0, 1.0
    least, most = reached(low), reached(high)
    if not least - 1e-9 <= average <= most + 1e-9:
        raise BudgetError(
            f"budget: a layer average of {average:.4g} tokens ({average / n_visual:.1%} of "
            f"{n_visual}) is out of reach: with stages {_describe(stages)} of {layers} layers it "
            f"can be {least:.4g} to {most:.4g} tokens ({least / n_visual:.1%} to "
            f"{most / n_visual:.1%})"
        )
    while high - low > _RESOLUTION:
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) <= average else (low, middle)
    nearest = min((low, high), key=lambda ratio: abs(reached(ratio) - average))
    return tuple(
        stage.model_copy(update={"keep": _ratio(keep_count(stage.keep, n_visual), n_visual)})
        for stage in spread(stages, nearest)
    )


def _describe(stages: Sequence[Stage]) -> str:
    return ", ".join(f"{stage.when} {stage.score_layer} ({stage.disposal})" for stage in stages)


def _ratio(count: int, n_visual: int) -> float:
    """The shortest decimal of three digits or more by which `count` of `n_visual` are kept."""
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
    spread: Spread = geometric,
) -> Schedule:
    """A schedule of these stages that meets `budget` on a sample of `n_visual` visual tokens.

    See `solve_budget` for `spread`.
    """
    draft = Schedule(
        schema=1,
        method=method,
        model=model,
        scorer=scorer or Scorer(),
        stages=stages,
        budget=budget.note(n_visual),
    )
    solved = solve_budget(
        draft.stages,
        budget.tokens(n_visual),
        n_visual=n_visual,
        layers=model.layers,
        spread=spread,
    )
    return draft.replace(stages=solved)
