"""What the explorer has to show: the samples of all profiles and results, model by model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from typing import Any, Self

import numpy as np
import pandas as pd

from tokenlens.evaluation.running.results import Results
from tokenlens.probing.profile import Profile, ProfileRow
from tokenlens.reports.inputs import Inputs
from tokenlens.reports.nearby import near
from tokenlens.reports.shown_samples import Candidate, candidates, choose_samples
from tokenlens.schedule import Schedule
from tokenlens.storage.output_paths import same_model

ASKED = "the last prompt token"
"""Whose attention a profile holds."""
Key = tuple[str, str, str]
"""A sample: its id, its picture, its question."""


@dataclass
class Found:
    """A sample, before it is decided whether it is shown.

    Attributes:
        candidate: what the choice goes by; `place` counts from 0 within the model.
        measured: whether a profile has it.
        lost: by how much the worst arm scores less than the unpruned model; 1 or 0 for another
            answer or the same where there is no score.
    """

    candidate: Candidate
    measured: bool
    lost: float = 0.0
    answered: bool = False


@dataclass(frozen=True)
class Arm:
    """A way that the model was run; the unpruned one has no schedule."""

    name: str
    schedule: Schedule | None


@dataclass(frozen=True)
class Ran:
    """Results with what their samples are compared by, quick to read."""

    results: Results
    scores: list[float]
    predictions: list[str]

    @classmethod
    def of(cls, results: Results) -> Self:
        """The scores and the answers in lists."""
        columns = (results.outcomes[name] for name in ("score", "prediction"))
        return cls(results, *(column.to_list() for column in columns))


@dataclass
class Answers:
    """Where the answers to one sample are.

    Attributes:
        candidate: the sample; its `place` is that of its first row.
        rows: per number of an arm its results, and the place of the sample among their rows.
    """

    candidate: Candidate
    rows: dict[int, tuple[Ran, int]] = field(default_factory=dict)

    @property
    def lost(self) -> float:
        """By how much the worst arm scores less than the unpruned model (see `Found`)."""
        if 0 not in self.rows:
            return 0.0
        plain = self._outcome(0)
        others = (self._outcome(number) for number in self.rows if number)
        return max((_loss(plain, other) for other in others), default=0.0)

    def _outcome(self, number: int) -> tuple[float, str]:
        ran, place = self.rows[number]
        return ran.scores[place], ran.predictions[place]


@dataclass
class ExploredModel:
    """One model's profiles and results.

    Attributes:
        inputs: those of this model, as they were given.
        arms: all that ran, the unpruned model first.
        answered: what ran each sample.
    """

    inputs: list[Inputs]
    arms: list[Arm] = field(default_factory=list)
    answered: dict[Key, Answers] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What a reader calls the model."""
        return self.inputs[0].model_name

    @property
    def profiles(self) -> dict[str, Profile]:
        """Its profiles by what their maps are called."""
        return {name: profile for name, (profile, _) in self._measured.items()}

    @property
    def correlations(self) -> dict[str, pd.DataFrame]:
        """Of each profile the mean rank correlation between layers, by the same names."""
        return {
            name: part.correlation
            for name, (_, part) in self._measured.items()
            if part.correlation is not None
        }

    @property
    def _measured(self) -> dict[str, tuple[Profile, Inputs]]:
        found = [(one.profile, one) for one in self.inputs if one.profile]
        if len(found) < 2:
            return {_asked(profile): (profile, part) for profile, part in found}
        return {
            f"{_asked(profile)} ({near(str(profile.directory))})": (profile, part)
            for profile, part in found
        }

    def profile_rows(self) -> Iterator[tuple[str, ProfileRow]]:
        """Of all its profiles, those whose visual tokens are placed, with what they are called."""
        for name, profile in self.profiles.items():
            for row in profile.rows():
                if np.isfinite(row.boxes).all():
                    yield name, row


def read_answers(found: Sequence[Answers]) -> list[dict[int, pd.Series]]:
    """The rows of some samples, by the number of the arm; each run is read once."""
    wanted: dict[int, tuple[Ran, list[int]]] = {}
    for answers in found:
        for ran, place in answers.rows.values():
            wanted.setdefault(id(ran), (ran, []))[1].append(place)
    tables = {key: ran.results.by_place(places) for key, (ran, places) in wanted.items()}
    return [
        {number: tables[id(ran)][place] for number, (ran, place) in answers.rows.items()}
        for answers in found
    ]


def _asked(profile: Profile) -> str:
    """What the maps of a profile are called: whose rows they are, and of which importance."""
    return ASKED if profile.importance == "attention" else f"{ASKED}, {profile.importance}"


def key_of(row: Any) -> Key:
    """The same for a row of a profile and a row of results."""
    return (row.id, row.image, row.question)


def explored_models(parts: Sequence[Inputs]) -> list[ExploredModel]:
    """The models of a report's inputs, each with everything that was measured of it."""
    models: list[tuple[dict[str, Any], ExploredModel]] = []
    for part in parts:
        identity = part.model_identity
        if identity is None:
            continue
        found = next((model for other, model in models if same_model(other, identity)), None)
        if found:
            found.inputs.append(part)
        else:
            models.append((identity, ExploredModel([part])))
    for _, model in models:
        for part in model.inputs:
            _add_results(model, part)
    return [model for _, model in models]


def choose(model: ExploredModel, count: int) -> list[Key]:
    """Which samples are shown: a third that lose most, a third answered, the rest measured.

    Where one kind has too few, the others fill up; in each kind the tasks come in turn.
    """
    found = _found(model)
    keys = list(found)
    pools = [
        [one for one in found.values() if one.lost > 0],
        [one for one in found.values() if one.answered],
        [one for one in found.values() if one.measured],
        list(found.values()),
    ]
    pools[0].sort(key=lambda one: -one.lost)
    chosen: list[int] = []
    for pool, most in zip(pools, (count // 3, count // 3, count, count), strict=True):
        rest = [one.candidate for one in pool if one.candidate.place not in chosen]
        chosen += choose_samples(rest, min(most, count - len(chosen)))
    return [keys[place] for place in chosen]


def _found(model: ExploredModel) -> dict[Key, Found]:
    found: dict[Key, Found] = {}
    for _, row in model.profile_rows():
        candidate = Candidate(len(found), row.task, row.image, bool(row.region.any()))
        found.setdefault(key_of(row), Found(candidate, measured=True))
    for key, answers in model.answered.items():
        candidate = replace(answers.candidate, place=len(found))
        entry = found.setdefault(key, Found(candidate, measured=False))
        entry.answered, entry.lost = True, answers.lost
    return found


def _loss(plain: tuple[float, str], pruned: tuple[float, str]) -> float:
    (score, answer), (other_score, other_answer) = plain, pruned
    if isnan(score) or isnan(other_score):
        return float(answer != other_answer)
    return score - other_score


def _add_results(model: ExploredModel, part: Inputs) -> None:
    """Add a part's arms and rows; where an arm and sample are there already, they stay."""
    if part.comparison is None:
        return
    whole = next(iter(part.comparison.arms.values()))
    placed = {one.place: one for one in candidates(whole)}
    for name, results in part.comparison.arms.items():
        content = results.identity["schedule"]
        arm = Arm(name, Schedule(**content) if content else None)
        number = _number(model, arm, part)
        ran = Ran.of(results)
        keys = results.outcomes[["id", "image", "question"]].itertuples(index=False, name=None)
        for place, key in enumerate(keys):
            if place in placed:
                answers = model.answered.setdefault(key, Answers(placed[place]))
                answers.rows.setdefault(number, (ran, place))


def _number(model: ExploredModel, arm: Arm, part: Inputs) -> int:
    if arm in model.arms:
        return model.arms.index(arm)
    if any(other.name == arm.name for other in model.arms):
        arm = Arm(f"{arm.name} ({part.results.name if part.results else 'other'})", arm.schedule)
    model.arms.append(arm)
    return len(model.arms) - 1
