"""Result of a search: the front and the chosen schedule, with their scores on held-out samples."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tokenlens.schedule import Schedule, Stage
from tokenlens.storage.files import write_bytes
from tokenlens.storage.output_paths import TUNING_FRONT
from tokenlens.storage.seals import write_sealed
from tokenlens.tuning.goal import Goal
from tokenlens.tuning.trials import Trial, chosen_above, chosen_within, nearest, pareto

FRONT, TABLE, SCHEDULE = TUNING_FRONT, "trials.csv", "schedule.json"
COLUMNS = (
    *("trial", "name", "outcome", "samples", "cost", "retained", "low", "high"),
    *("held_out", "held_out_low", "held_out_high", "optimism"),
    *("on_front", "chosen", "stages", "reason"),
)


@dataclass(frozen=True)
class HeldOut:
    """Retained share of the unpruned score on held-out samples, with its 95 % interval's ends."""

    retained: float
    low: float
    high: float


@dataclass(frozen=True)
class Tuning:
    """The trials of a study, and the choice among them by the tuning samples alone.

    Attributes:
        goal: goal of the search.
        trials: trials in the order of their numbers.
        samples: number of samples each finished trial was evaluated on.
        held_out: retained share on held-out samples, by a trial's number, for the front, the chosen
            trial and the best starting point.
        held_out_samples: number of held-out samples; 0 where there are none.
        margin: paired difference on held-out samples: retained share of the chosen (or nearest)
            trial minus that of the best starting point; None without held-out samples, or where
            both are one trial.
        cautions: limits of what the figures show, one sentence each.
        source: model, data and seed, as JSON values.
    """

    goal: Goal
    trials: tuple[Trial, ...]
    samples: int
    held_out: Mapping[int, HeldOut] = field(default_factory=dict)
    held_out_samples: int = 0
    margin: HeldOut | None = None
    cautions: tuple[str, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def front(self) -> list[Trial]:
        """The trials that no other beats in both score and cost, ordered by increasing cost."""
        return pareto(self.trials)

    @property
    def chosen(self) -> Trial | None:
        """The trial that meets the goal best; None where none meets it."""
        if self.goal.least is None:
            return chosen_within(self.trials)
        return chosen_above(self.trials, self.goal.least)

    @property
    def nearest(self) -> Trial | None:
        """The chosen trial, or else the one nearest to the goal."""
        return self.chosen or nearest(self.trials)

    @property
    def schedule(self) -> Schedule | None:
        """Schedule of the chosen trial."""
        return None if self.chosen is None else self.chosen.schedule

    @property
    def best_start(self) -> Trial | None:
        """The starting point that would have been chosen if nothing else had been tried."""
        starts = [trial for trial in self.trials if trial.name]
        if self.goal.least is None:
            return chosen_within(starts)
        return chosen_above(starts, self.goal.least) or nearest(starts)

    @property
    def shown(self) -> list[Trial]:
        """The front, the chosen or nearest trial and the best starting point, ordered by cost."""
        others = [one for one in (self.nearest, self.best_start) if one is not None]
        found = {trial.place: trial for trial in (*self.front, *others)}
        return sorted(found.values(), key=lambda one: (one.price, one.place))

    def optimism(self, trial: Trial) -> float:
        """Retained share of a trial on the tuning samples minus that on the held-out samples."""
        held = self.held_out.get(trial.place)
        return nan if held is None or trial.retained is None else trial.retained - held.retained

    @property
    def mean_optimism(self) -> float:
        """Mean optimism over the front; NaN without held-out samples."""
        found = [self.optimism(trial) for trial in self.front]
        return float(np.mean(found)) if found else nan

    def table(self, trials: Iterable[Trial] | None = None) -> pd.DataFrame:
        """One row per trial, with the columns `COLUMNS`; all trials by default."""
        front, chosen = {one.place for one in self.front}, self.chosen
        rows = []
        for trial in self.trials if trials is None else trials:
            held = self.held_out.get(trial.place)
            rows.append(
                (
                    *(trial.place, trial.name, trial.outcome, len(trial.values), trial.cost),
                    *(trial.retained, trial.low, trial.high),
                    *((held.retained, held.low, held.high) if held else (nan, nan, nan)),
                    self.optimism(trial),
                    trial.place in front,
                    trial is chosen,
                    "" if trial.schedule is None else describe(trial.schedule),
                    trial.reason,
                )
            )
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def as_json(self) -> dict[str, Any]:
        """The goal, the front with its schedules, and what was chosen, as values of JSON."""
        chosen = self.chosen
        return {
            "goal": self.goal.as_json(),
            "source": dict(self.source),
            "samples": self.samples,
            "held_out_samples": self.held_out_samples,
            "margin": self.margin and vars(self.margin),
            "mean_optimism": _plain(self.mean_optimism),
            "chosen": None if chosen is None else chosen.place,
            "nearest": None if self.nearest is None else self.nearest.place,
            "cautions": list(self.cautions),
            "front": [self._entry(trial) for trial in self.shown],
        }

    def save(self, directory: Path) -> None:
        """Write the front (sealed JSON), all trials (CSV) and the chosen schedule, if any."""
        write_sealed(directory / FRONT, {"schema": 1, "kind": "front", **self.as_json()})
        write_bytes(directory / TABLE, self.table().to_csv(index=False).encode())
        if self.schedule is not None:
            write_sealed(directory / SCHEDULE, self.schedule.as_json())
        else:
            (directory / SCHEDULE).unlink(missing_ok=True)

    def _entry(self, trial: Trial) -> dict[str, Any]:
        (row,) = self.table([trial]).to_dict("records")
        schedule = trial.schedule and trial.schedule.as_json()
        return {**{str(key): _plain(value) for key, value in row.items()}, "schedule": schedule}


def describe(schedule: Schedule) -> str:
    """The stages of a schedule in one line.

    >>> describe(Schedule(schema=1, method="x", model={"architecture": "A", "layers": 8}, stages=[
    ...     {"score_layer": 2, "when": "after", "keep": 0.5, "disposal": "freeze"},
    ...     {"score_layer": 5, "when": "before", "keep": 24, "disposal": "drop"}]))
    'after 2 keep 50 % by last, freeze; before 5 keep 24 by last, drop'
    """
    parts = [_stage(schedule, stage) for stage in schedule.stages]
    if schedule.image_scale is not None:
        parts.insert(0, f"pictures of {100 * schedule.image_scale:.3g} % of their tokens")
    return "; ".join(parts)


def _stage(schedule: Schedule, stage: Stage) -> str:
    keep = f"{100 * stage.keep:.3g} %" if isinstance(stage.keep, float) else str(stage.keep)
    merge = f" ({100 * stage.merge:g} % merged)" if isinstance(stage.merge, float) else ""
    scorer = schedule.scorer_of(stage)
    how = scorer.query if scorer.rotary else f"{scorer.query} without rotary"
    how = how if scorer.heads == "mean" else f"{how}, some heads"
    merged = merge if stage.merge else ""
    return f"{stage.when} {stage.score_layer} keep {keep} by {how}, {stage.disposal}{merged}"


def _plain(value: Any) -> Any:
    """A value for JSON; NaN becomes null."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and np.isnan(value) else value


def counts(trials: Sequence[Trial]) -> dict[str, int]:
    """Number of trials by outcome."""
    return {
        name: sum(trial.outcome == name for trial in trials)
        for name in ("finished", "hopeless", "refused")
    }
