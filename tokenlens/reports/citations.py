"""What to cite for profiles, results, searches and schedules on disk."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenlens.errors import ResultsError
from tokenlens.evaluation.comparing.citations import compared_schedules
from tokenlens.evaluation.comparing.summary import read_summary
from tokenlens.schedule import Schedule
from tokenlens.schedule.citations import Citations, schedule_citations
from tokenlens.storage.output_paths import kind_of
from tokenlens.storage.run_directory import read_manifest
from tokenlens.tuning.stored import StoredTuning

_BY_CURVES = "tokenlens"
"""The preset that goes by the curves of an information profile, and names who published them."""


def result_citations(paths: Iterable[Path], schedule: Schedule | None = None) -> Citations:
    """What to cite for directories of runs and for schedule files, and for `schedule`.

    Raises `ResultsError` for a directory of no run or of an unfinished one, and `ScheduleError` for
    a file that is no schedule.
    """
    schedules: list[Mapping[str, Any]] = [schedule.as_json()] if schedule else []
    methods: list[str] = []
    identities: list[Mapping[str, Any]] = []
    for path in paths:
        kind = kind_of(path)
        if not path.is_dir():
            schedules.append(Schedule.load(path).as_json())
        elif kind == "comparison":
            schedules += compared_schedules(read_summary(path)["arms"])
        elif kind in ("profile", "information"):
            identities.append(read_manifest(path, kind)["identity"])
            methods += [_BY_CURVES] * (kind == "information")
        elif kind == "tuning":
            found = StoredTuning.load(path)
            identities.append(found.identity)
            schedules += found.schedules
            methods += [name.partition(",")[0] for name in found.trials["name"] if name]
        else:
            raise ResultsError(
                f"{path} is no result and no schedule; name what `tokenlens profile`, `run`, "
                "`information`, `tune` or `select-layers` wrote"
            )
    told = [identity.get("options", {}).get("importance") for identity in identities]
    models = [identity["model"].get("architecture") for identity in identities]
    return schedule_citations(
        schedules,
        methods=methods,
        importances=filter(None, told),
        architectures=filter(None, models),
    )
