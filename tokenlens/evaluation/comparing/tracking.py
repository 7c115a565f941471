"""A finished comparison for an experiment tracker."""

from pathlib import Path

from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.evaluation.running.results import ALL
from tokenlens.storage.files import json_text
from tokenlens.storage.output_paths import slug
from tokenlens.storage.trackers import Tracker, finite
from tokenlens.storage.versions import versions

FIGURES = ("score", "retained", "agreement", "tokens", "macs", "kv_bytes", "prefill_s", "decode_s")
"""Columns of a comparison's table that are logged of every arm, means over all samples."""


def track_comparison(comparison: Comparison, tracker: Tracker) -> None:
    """Record a comparison: settings, every arm's figures, the table and the schedules.

    A figure is named ARM/COLUMN, the arm as its folder is: `fastv-33/retained`. Shares are from 0
    to 1. Raises `TrackerError` where the tracker does not take it.
    """
    table = comparison.table()
    whole = next(iter(comparison.arms.values())).identity
    settings = {
        **{name: whole[name] for name in ("model", "data", "generation")},
        "arms": list(comparison.arms),
        "command": comparison.command,
        "versions": versions(),
    }
    tracker.begin(comparison.directory or Path("comparison"), settings)
    for row in table[table["task"] == ALL].to_dict("records"):
        tracker.log(finite({f"{slug(row['arm'])}/{name}": row[name] for name in FIGURES}))
    schedules = {name: arm.identity["schedule"] for name, arm in comparison.arms.items()}
    rows = [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
    tracker.end(
        {"table": rows},
        {f"{slug(name)}.json": json_text(one) for name, one in schedules.items() if one},
    )
