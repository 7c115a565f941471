"""Origin of schedule files: the model and the data set that they were made for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenlens.errors import ScheduleError
from tokenlens.schedule import Schedule


@dataclass(frozen=True)
class Origin:
    """A model and a data set by name; None where no schedule names one.

    Attributes:
        model: bundled name, hub id or directory.
        revision: revision of the model, where the schedules give it.
        data: data set on which layers were chosen; a run uses its held-out split.
    """

    model: str | None
    revision: str | None
    data: str | None


def made_for(
    schedules: Mapping[Path, Schedule], *, model: str | None = None, data: str | None = None
) -> Origin:
    """The model and the data set that all schedules share; given values take precedence.

    Raises `ScheduleError` where two schedules name different ones.
    """
    revision = None
    if model is None:
        model = _common(schedules, "model", lambda one: one.model.id)
        revision = _common(schedules, "revision", lambda one: one.model.revision)
    if data is None:
        data = _common(schedules, "data", lambda one: one.why.data if one.why else None)
    return Origin(model, revision, data)


def _common(
    schedules: Mapping[Path, Schedule], option: str, read: Callable[[Schedule], str | None]
) -> str | None:
    named = {value: file for file, one in schedules.items() if (value := read(one)) is not None}
    if len(named) > 1:
        (first, file), (second, other), *_ = named.items()
        raise ScheduleError(
            f"{option}: {file} was made for {first!r}, {other} for {second!r}; say with "
            f"--{option} which one to run"
        )
    return next(iter(named), None)
