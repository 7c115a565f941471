"""`summary.json`: the arms of a finished comparison, and its plan."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenlens.errors import ResultsError
from tokenlens.storage.seals import read_sealed, require

SUMMARY = "summary.json"
OWN = "their own budgets"
"""Heading of the table of schedule files that meet none of the budgets."""


@dataclass(frozen=True)
class Plan:
    """Plan of a comparison: the arms in the table of each budget.

    Attributes:
        budgets: per budget the rows of its table: the method's name and its arm.
        left_out: per budget the methods that could not be run at it, with the reason.
        layers: per budget a sentence on layers that were chosen for the model.
    """

    budgets: Mapping[str, Mapping[str, str]]
    left_out: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    layers: Mapping[str, str] = field(default_factory=dict)


def read_summary(directory: Path) -> dict[str, Any]:
    """Read the summary of a comparison; raises `ResultsError` for a missing or damaged one.

    Its keys `arms`, `versions` and, where it exists, `plan` have the expected types.
    """
    path = directory / SUMMARY
    if not path.exists():
        raise ResultsError(
            f"{directory} holds an unfinished run; finish it by the same command that began it"
        )
    summary = read_sealed(path, ResultsError, "run the same command again")
    require(summary, path, ResultsError, {"arms": dict, "versions": dict})
    if summary.get("plan"):
        parts = {f"plan.{part}": dict for part in summary["plan"].keys() | {"budgets"}}
        require(summary, path, ResultsError, parts)
    return summary
