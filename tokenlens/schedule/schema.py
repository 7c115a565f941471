"""The versions of the schedule file: which keys belong to which."""

from collections.abc import Sequence
from typing import Any

from tokenlens.errors import ScheduleError
from tokenlens.schedule.parts import Scorer


def of_this_schema(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields under their current names and schema.

    It is 3 where a scorer has an `importance`, else 2 with an `image_scale`, else 1.
    """
    if fields.get("schema") == 1 and "picture" in fields and "image_scale" not in fields:
        fields = {("image_scale" if key == "picture" else key): fields[key] for key in fields}
    if fields.get("schema") == 1 and fields.get("image_scale") is not None:
        fields = {**fields, "schema": 2}
    stages = fields.get("stages")
    parts = [fields, *(stages if isinstance(stages, list | tuple) else ())]
    told = any(_value(_value(part, "scorer"), "importance") is not None for part in parts)
    return {**fields, "schema": 3} if told and fields.get("schema") in (1, 2) else fields


def check_importances(schema: int, scorers: Sequence[Scorer]) -> None:
    """Raise `ScheduleError` where scorers name other importances than the schema allows."""
    told = sorted({one.importance for one in scorers if one.importance is not None})
    if schema == 3 and not told:
        raise ScheduleError("schema: got 3 without a scorer's `importance`, expected 1 or 2")
    recorded = {one.importance for one in scorers if one.query == "recorded"}
    if len(recorded) > 1:
        names = ", ".join(sorted(name or "attention" for name in recorded))
        raise ScheduleError(
            f"scorer.importance: got {names}, expected the same of all stages: they are recorded "
            "in one run"
        )


def _value(part: Any, name: str) -> Any:
    """A value of a part that is still a dictionary, or made already."""
    return part.get(name) if isinstance(part, dict) else getattr(part, name, None)
