"""A trial: a schedule that was tried, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tokenlens.schedule import Schedule

Outcome = Literal["finished", "hopeless", "refused"]


@dataclass(frozen=True)
class Trial:
    """One trial of a study.

    Attributes:
        place: its number, from 0; the starting points come first.
        name: of a starting point; empty for what was proposed.
        outcome: "finished" on all samples; "hopeless", given up after some; "refused", not run.
        schedule: what was tried; None where no stages could be had.
        parameters: by which it was proposed; none for a starting point outside the space.
        values: per sample that was answered, of its step: the score, or agreement.
        retained: of the unpruned model's mean over tasks, on these samples; None where refused.
        low: low end of the 95 % paired bootstrap interval of it.
        high: high end.
        cost: as a share of the unpruned model's.
        used: of the budget, on the prompt it was solved for; None without a budget.
        reason: why it was given up or refused.
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
        """What is retained; 0 where nothing is known."""
        return self.retained or 0.0

    @property
    def price(self) -> float:
        """What it costs; infinite where nothing is known."""
        return float("inf") if self.cost is None else self.cost

    @property
    def title(self) -> str:
        """How it is called among the others."""
        return self.name or f"trial {self.place}"

    def as_json(self) -> dict[str, Any]:
        """All of it but the parameters, which a study keeps."""
        plain = {name: value for name, value in vars(self).items() if name != "parameters"}
        return {
            **plain,
            "values": list(self.values),
            "schedule": self.schedule and self.schedule.as_json(),
        }

    @classmethod
    def read(cls, content: Mapping[str, Any], parameters: Mapping[str, Any]) -> "Trial":
        """What `as_json` wrote."""
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
    """The finished trials that none beats in both, from the cheapest to the dearest.

    Costs that differ by less than `step` of the unpruned model's are taken as equal, and of equal
    ones the first is taken.
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
    """Of the finished trials within the budget the one that retains most, then the cheapest."""
    found = [one for one in trials if one.finished and (one.used or 0.0) <= 1 + slack]
    return min(found, key=lambda one: (-one.score, one.price, one.place), default=None)


def chosen_above(trials: Sequence[Trial], least: float) -> Trial | None:
    """The cheapest finished trial whose interval's low end is `least` or more."""
    found = [one for one in trials if one.finished and (one.low or 0.0) >= least]
    return min(found, key=lambda one: (one.price, -one.score, one.place), default=None)


def nearest(trials: Sequence[Trial]) -> Trial | None:
    """The trial whose interval's low end is the highest, then the cheapest.

    Of the finished ones, or where there is none, of those that were given up.
    """
    found = [one for one in trials if one.finished] or [one for one in trials if one.values]
    return min(found, key=lambda one: (-(one.low or 0.0), one.price, one.place), default=None)
