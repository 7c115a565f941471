"""A search for an experiment tracker: its trials as they end, then what was found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenlens.storage.files import json_text
from tokenlens.storage.trackers import Tracker, finite
from tokenlens.tuning.trials import Trial
from tokenlens.tuning.tuning import SCHEDULE, Tuning


class SearchTracking:
    """Tells a tracker of a search; with None as the tracker, nobody."""

    def __init__(self, tracker: Tracker | None) -> None:
        self._tracker = tracker
        self._told: set[int] = set()

    def begin(self, directory: Path, source: Mapping[str, Any]) -> None:
        """Begin, with the identity of the search as settings."""
        if self._tracker is not None:
            self._tracker.begin(directory, source)

    def ended(self, trials: list[Trial]) -> None:
        """Log the trials that were not logged yet, each at the step of its number."""
        for trial in trials:
            if self._tracker is None or trial.place in self._told:
                continue
            self._told.add(trial.place)
            figures = {name: getattr(trial, name) for name in ("retained", "low", "high", "cost")}
            if known := finite(figures):
                self._tracker.log(known, trial.place)

    def end(self, tuning: Tuning) -> None:
        """Record the front with its schedules, and the chosen schedule."""
        if self._tracker is None:
            return
        front = tuning.as_json()["front"]
        tables = [{key: value for key, value in row.items() if key != "schedule"} for row in front]
        chosen = tuning.schedule
        files = {SCHEDULE: json_text(chosen.as_json())} if chosen else {}
        self._tracker.end({"front": tables} if tables else {}, files)
