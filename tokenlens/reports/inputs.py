"""Inputs of a report, with a check that they belong together."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from tokenlens.analyses import rank_correlation
from tokenlens.benching.records import Bench
from tokenlens.errors import ResultsError, ScheduleError
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.evaluation.comparing.summary import read_summary
from tokenlens.evaluation.information.curves import Information
from tokenlens.probing.profile import Profile
from tokenlens.reports.wording import listed
from tokenlens.schedule import Schedule
from tokenlens.storage.output_paths import same_model, slug
from tokenlens.storage.shards import ShardReader
from tokenlens.tuning.stored import StoredTuning


@dataclass(frozen=True)
class Missing:
    """Why a section of the report is missing, and the command that makes its input."""

    reason: str
    command: str


NO_PROFILE = Missing("No profile was given.", "tokenlens profile")
NO_SCHEDULE = Missing("No schedule was given.", "tokenlens select-layers")
NO_RESULTS = Missing("No results were given.", "tokenlens run")
NO_INFORMATION = Missing("No information profile was given.", "tokenlens information")
NO_TUNING = Missing("No search was given.", "tokenlens tune --budget 33%")
NO_BENCH = Missing("No bench was given.", "tokenlens bench")
NO_PRUNED = Missing(
    "The results are of the unpruned model alone.", "tokenlens run --schedule out.json"
)
NO_PICTURES = Missing("No pictures were asked for.", "tokenlens report --pictures 6")
NO_STAGES = Missing(
    "Nothing is pruned between layers: every token of the smaller pictures goes on.",
    "tokenlens methods",
)
NO_BOXES = Missing(
    "The model's family has no adapter, so it is not known what its visual tokens cover.",
    "tokenlens models",
)
NO_REGION = Missing(
    "No sample of the profile has a region that covers a visual token.",
    "tokenlens profile --data DATA-WITH-BOXES",
)


@dataclass(frozen=True)
class Inputs:
    """A report's inputs; a section whose input is None says that it is missing.

    Attributes:
        profile: profile of the model.
        schedule: schedule that the report describes.
        comparison: results of the unpruned and the pruned model.
        arm: the comparison's arm that ran the schedule; None where there is no pruned arm.
        results: the directory of the comparison.
        results_versions: package versions that made the comparison.
        information: information profile of the model.
        information_folder: the directory of the information profile.
        tuning: search for a schedule of the model.
        bench: speed of pruned models beside the unpruned one.
    """

    profile: Profile | None
    schedule: Schedule | None
    comparison: Comparison | None
    arm: str | None
    results: Path | None
    results_versions: dict[str, str]
    information: Information | None = None
    information_folder: Path | None = None
    tuning: StoredTuning | None = None
    bench: Bench | None = None

    @property
    def chosen(self) -> tuple[int, ...]:
        """The scoring layers of the schedule, counted from 1."""
        stages = self.schedule.stages if self.schedule else ()
        return tuple(stage.score_layer for stage in stages if stage.score_layer)

    @cached_property
    def correlation(self) -> pd.DataFrame | None:
        """The mean rank correlation between the profile's layers, computed once."""
        return rank_correlation.compute(self.profile) if self.profile else None

    @property
    def identities(self) -> list[dict[str, Any]]:
        """The manifests' entries for the model, one of each run."""
        found: list[Mapping[str, Any]] = []
        if self.profile:
            found.append(self.profile.manifest["identity"])
        if self.comparison:
            found.append(next(iter(self.comparison.arms.values())).identity)
        found += [self.information.identity] if self.information else []
        found += [self.tuning.identity] if self.tuning else []
        return [dict(identity["model"]) for identity in found]

    @property
    def model_identity(self) -> dict[str, Any] | None:
        """The manifests' entry for the model; None where there is but a schedule."""
        return next(iter(self.identities), None)

    @property
    def title(self) -> str:
        """The model's name and the folders of its profile and results."""
        folders = [self.profile.directory if self.profile else None, self.results]
        return " · ".join([self.model_name, *(folder.name for folder in folders if folder)])

    @property
    def model_name(self) -> str:
        """The model's name in the page: its id, or else its architecture."""
        models = self.identities
        if self.schedule:
            models.append(self.schedule.model.model_dump())
        names = [model.get(key) for key in ("id", "architecture") for model in models]
        return next((str(name) for name in names if name), "a model without a name")


def read_inputs(
    profile: Path | None,
    schedule: Schedule | None,
    results: Path | None,
    *,
    information: Path | None = None,
    tuning: Path | None = None,
    bench: Path | None = None,
) -> Inputs:
    """Open the given runs; raises an error where they do not belong together.

    Raises:
        ProfileError: no finished profile in that directory.
        ResultsError: no finished run of its kind in a directory, or one of another model; a file
            that is no bench.
        ScheduleError: a schedule for another number of layers than profiled, or that is not what
            the results ran; nothing given at all.
    """
    if not any((profile, schedule, results, information, tuning)):
        raise ScheduleError(
            "nothing to report on; give a profile, a schedule or results, such as `tokenlens "
            "profile` makes"
        )
    opened = Profile(profile) if profile else None
    comparison = Comparison.load(results) if results else None
    arm = _arm(comparison, schedule) if comparison else None
    if results and arm and schedule is None:
        schedule = Schedule(**ShardReader(results / slug(arm), "results").manifest["schedule"])
    inputs = Inputs(
        opened,
        schedule,
        comparison,
        arm,
        results,
        _versions(results),
        Information.load(information) if information else None,
        information,
        StoredTuning.load(tuning) if tuning else None,
        Bench.read(bench) if bench else None,
    )
    _check(inputs)
    return inputs


def inputs_in_memory(profile: Profile | None, comparison: Comparison | None) -> Inputs:
    """The same of what is open already; the arm is the first pruned one.

    Raises `ResultsError` where the results are of another model than the profile.
    """
    arm = _arm(comparison, None) if comparison else None
    schedule = None
    if comparison and arm:
        schedule = Schedule(**comparison.arms[arm].identity["schedule"])
    results = comparison.directory if comparison else None
    inputs = Inputs(profile, schedule, comparison, arm, results, {})
    _check(inputs)
    return inputs


def _arm(comparison: Comparison, schedule: Schedule | None) -> str | None:
    """The arm that ran this schedule, or the first pruned one where none is given."""
    pruned = {
        name: Schedule(**results.identity["schedule"])
        for name, results in comparison.arms.items()
        if results.identity["schedule"]
    }
    if schedule is None:
        return next(iter(pruned), None)
    for name, ran in pruned.items():
        if (ran.stages, ran.scorer) == (schedule.stages, schedule.scorer):
            return name
    arms = listed([*map(repr, pruned)]) or "no pruned arm"
    raise ScheduleError(
        f"stages: the results hold {arms}, none of which ran this schedule; run it with `tokenlens "
        "run`, or leave it out"
    )


def _check(inputs: Inputs) -> None:
    profile, schedule = inputs.profile, inputs.schedule
    if profile and schedule and schedule.model.layers != profile.layers:
        raise ScheduleError(
            f"model.layers: the schedule is for {schedule.model.layers} layers, the profile "
            f"{profile.directory} has {profile.layers}; report them apart"
        )
    first, *others = inputs.identities or [{}]
    for other in others:
        if not same_model(other, first):
            first_name, other_name = (
                f"{one.get('id')} ({one['config_hash']})" for one in (first, other)
            )
            raise ResultsError(
                f"the runs given are of {first_name} and of {other_name}, or the weights have "
                "changed in between; report them apart"
            )


def _versions(results: Path | None) -> dict[str, str]:
    if results is None:
        return {}
    return dict(read_summary(results)["versions"])
