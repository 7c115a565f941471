"""What of a schedule affects answers."""

from typing import Any

from tokenlens.schedule.schedule import Schedule

_NOTES = {"schema", "method", "model", "budget", "why"}
"""Keys of a schedule that do not affect an answer."""


def effective_schedule(schedule: Schedule) -> dict[str, Any]:
    """A schedule without its name, its model, its budget and its origin."""
    return {key: value for key, value in schedule.as_json().items() if key not in _NOTES}
