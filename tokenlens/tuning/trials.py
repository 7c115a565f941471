"""A trial: a schedule that was tried, and its outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tokenlens.schedule import Schedule

Outcome = Literal["finished", "hopeless", "refused"]


@dataclass(frozen=True)
class Trial:
    """One trial of a study.

    Attributes:
        place: number of the trial, from 0; starting points come first.
        name: name of a starting point; empty for a proposal.
        outcome: "finished" on all samples; "hopeless", given up after some; "refused", not run.
        schedule: schedule that was tried; None where no stages were found.
        parameters: parameters of the proposal; empty for a starting point outside the space.
        values: score or agreement of each sample of the last step that was answered.
        retained: share of the unpruned model's mean over tasks, on these samples; None where
            refused.
        low: low end of the 95 % paired bootstrap interval of `retained`.
        high: high end.
        cost: cost as a share of the unpruned model's.
        used: share of the budget used on the prompt it was solved for; None without a budget.
        reason: reason why it was given up or refused.
    """

    place: int
    name: str
    outcome: Outcome
    schedule: Schedule | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    values: tuple[float, ...] = ()
    retained: float | None = None
    low: float | None = None
    high: float | None = None
    cost: float | None = None
    used: float | None = None
    reason: str = ""

    @property
    def finished(self) -> bool:
        """Whether all samples were answered."""
        return self.outcome == "finished"

    @property
    def score(self) -> float:
        """The retained share; 0 where it is unknown."""
        return self.retained or 0.0

    @property
    def price(self) -> float:
        """The cost; infinite where it is unknown."""
        return float("inf") if self.cost is None else self.cost

    @property
    def title(self) -> str:
        """Name of the trial in tables."""
        return self.name or f"trial {self.place}"

    def as_json(self) -> dict[str, Any]:
        """The trial as JSON values without its parameters, which the study stores."""
        plain = {name: value for name, value in vars(self).items() if name != "parameters"}
        return {
            **plain,
            "values": list(self.values),
            "schedule": self.schedule and self.schedule.as_json(),
        }

    @classmethod
    def read(cls, content: Mapping[str, Any], parameters: Mapping[str, Any]) -> "Trial":
        """Read a trial from the values of `as_json`."""
        schedule = content["schedule"]
        return cls(
            **{
                **content,
                "schedule": schedule and Schedule(**schedule),
                "values": tuple(content["values"]),
                "parameters": dict(parameters),
            }
        )


def pareto(trials: Sequence[Trial], step: float = 0.005) -> list[Trial]:
    """Pareto front: finished trials that no other beats in both, ordered by increasing cost.

    Costs that differ by less than `step` of the unpruned model's count as equal; of equal ones the
    first is taken.
    """
    front: list[Trial] = []
    found = [trial for trial in trials if trial.finished]

    def order(one: Trial) -> tuple[float, ...]:
        return (round(one.price / step), -one.score, one.price, one.place)

    for trial in sorted(found, key=order):
        if not front or trial.score > front[-1].score:
            front.append(trial)
    return front


def chosen_within(trials: Sequence[Trial], slack: float = 0.01) -> Trial | None:
    """The finished trial within the budget that retains most; of equal ones the cheapest."""
    found = [one for one in trials if one.finished and (one.used or 0.0) <= 1 + slack]
    return min(found, key=lambda one: (-one.score, one.price, one.place), default=None)


def chosen_above(trials: Sequence[Trial], least: float) -> Trial | None:
    """The cheapest finished trial whose interval's low end is `least` or more."""
    found = [one for one in trials if one.finished and (one.low or 0.0) >= least]
    return min(found, key=lambda one: (one.price, -one.score, one.place), default=None)


def nearest(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest low end of its interval; of equal ones the cheapest.

    It is chosen from the finished trials, or where there is none, from those given up.
    """
    found = [one for one in trials if one.finished] or [one for one in trials if one.values]
    return min(found, key=lambda one: (-(one.low or 0.0), one.price, one.place), default=None)
