"""Goal of a search: the best schedule within a budget, or the cheapest one that is good enough.

It is read from the command line before large packages are imported.
"""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, cast, get_args

from tokenlens.errors import OptionError
from tokenlens.schedule.budget import Budget, parse_budget
from tokenlens.wording.printable import shown
from tokenlens.wording.suggest import one_of
from tokenlens.workers import Workers

Objective = Literal["macs", "prefill-time", "kv"]
OBJECTIVES: dict[Objective, str] = {
    "macs": "MACs of the prefill",
    "prefill-time": "time of the prefill",
    "kv": "bytes of the KV cache",
}
"""Kinds of cost that a schedule can reduce, each a share of the unpruned model's."""
MISSING = "tuning needs Optuna, which is not installed: pip install 'tokenlens[tune]'"
_LADDER = (1.0, 0.85, 0.7, 0.55)
_SHARES = (0.75, 0.6, 0.5, 0.42, 0.35, 0.3, 0.25, 0.2)


@dataclass(frozen=True)
class Goal:
    """A budget to be met, or a share of the unpruned model's score to be retained at least cost.

    Attributes:
        budget: greatest cost of a schedule; None where `least` is set.
        least: least value of the low end of the retained share's 95 % interval; None where there is
            a budget.
        objective: kind of cost that a schedule reduces.
        labels: whether answers are scored by ground truth where samples have it. Otherwise, and
            where they have none, agreement with the unpruned model's answer is measured.
    """

    budget: Budget | None = None
    least: float | None = None
    objective: Objective = "macs"
    labels: bool = True

    @classmethod
    def of(
        cls,
        budget: Budget | str | float | None = None,
        min_retained: str | float | None = None,
        min_agreement: str | float | None = None,
        *,
        objective: str = "macs",
        labels: bool = True,
    ) -> "Goal":
        """Read a goal from the values of a command line or a call.

        Raises:
            OptionError: not exactly one of the first three arguments, an invalid share, an unknown
                objective, or `min_retained` without labels.
            BudgetError: an invalid budget.
        """
        given = {
            "--budget": budget,
            "--min-retained": min_retained,
            "--min-agreement": min_agreement,
        }
        named = [name for name, value in given.items() if value is not None]
        if len(named) != 1:
            got = " and ".join(named) if named else "none of them"
            raise OptionError(f"got {got}, expected exactly one of {', '.join(given)}")
        if objective not in get_args(Objective):
            raise OptionError(
                f"--objective: got {shown(objective)}, expected {one_of(objective, OBJECTIVES)}"
            )
        if min_retained is not None and not labels:
            raise OptionError(
                "--min-retained does not go with --no-labels: without labels it is agreement that "
                "is measured; use --min-agreement"
            )
        kind = cast(Objective, objective)
        if budget is not None:
            return cls(parse_budget(budget), None, kind, labels)
        share = min_retained if min_agreement is None else min_agreement
        least = _share(named[0], cast("str | float", share))
        return cls(None, least, kind, labels and min_agreement is None)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """Budgets that schedules are solved for, the largest first; none above the goal's."""
        if self.budget is None:
            return tuple(Budget(share, "MACs ratio") for share in _SHARES)
        return tuple(Budget(self.budget.amount * part, self.budget.unit) for part in _LADDER)

    @property
    def start_budgets(self) -> tuple[Budget, ...]:
        """Budgets of the starting points: the goal's budget, or every second one of `budgets`."""
        return self.budgets[:1] if self.budget is not None else self.budgets[::2]

    @property
    def words(self) -> str:
        """The goal in words.

        >>> Goal.of("33% MACs").words, Goal.of(min_agreement="98%").words
        ('the best within 33 % MACs', 'the least MACs of the prefill that keeps 98 % agreement')
        """
        if self.least is None:
            return f"the best within {self.budget}"
        what = "of the score" if self.labels else "agreement"
        return f"the least {OBJECTIVES[self.objective]} that keeps {100 * self.least:g} % {what}"

    @property
    def quality(self) -> str:
        """What a schedule retains: of the score ("retained"), or answers alike ("agreement")."""
        return "retained" if self.labels else "agreement"

    @property
    def folder(self) -> str:
        """Part of the name of a search's folder.

        >>> Goal.of("33% MACs").folder, Goal.of(min_retained=0.98, objective="kv").folder
        ('33 % MACs macs', 'retained 98 % kv')
        """
        what = str(self.budget) if self.least is None else f"{self.quality} {100 * self.least:g} %"
        unlabelled = "" if self.labels or self.least is not None else " no labels"
        return f"{what} {self.objective}{unlabelled}"

    def as_json(self) -> dict[str, Any]:
        """The goal as JSON values, for the identity of a search."""
        return {
            "budget": None if self.budget is None else str(self.budget),
            "least": self.least,
            "objective": self.objective,
            "labels": self.labels,
        }


def check_extent(trials: int, timeout: float | None) -> None:
    """Raise `OptionError` for a number of trials or of seconds out of range."""
    if trials < 0:
        raise OptionError(f"--trials: got {trials}, expected a number from 0")
    if timeout is not None and not timeout > 0:
        raise OptionError(f"--timeout: got {timeout:g}, expected a number of seconds above 0")


def check_workers(goal: Goal, workers: Workers | None) -> None:
    """Raise `OptionError` where times are to be measured by workers, which share machines."""
    if workers is not None and goal.objective == "prefill-time":
        raise OptionError(
            "objective prefill-time is measured in one process, since workers share machines; "
            "leave the workers out, or reduce macs"
        )


def require_optuna() -> None:
    """Raise `OptionError` where Optuna, which the search uses, is not installed."""
    if find_spec("optuna") is None:
        raise OptionError(MISSING)


def _share(name: str, value: str | float) -> float:
    """A share in (0, 1], written as "98%" or 0.98."""
    text = str(value).strip()
    found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s*(%?)", text)
    share = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    if not 0 < share <= 1:
        raise OptionError(
            f"{name}: got {shown(text)}, expected a share above 0 % and up to 100 % such as '98%' "
            "or '0.98'"
        )
    return share
