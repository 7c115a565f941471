"""Times of the arms, measured side by side in one run, as they are stored beside the results."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tokenlens.errors import ResultsError
from tokenlens.schedule import Schedule
from tokenlens.schedule.effect import effective_schedule
from tokenlens.storage.files import hash_json
from tokenlens.storage.seals import read_sealed, require, write_sealed

FILE = "timing.json"


@dataclass(frozen=True)
class Timing:
    """Times of all arms for the same batches.

    Attributes:
        arms: per arm a hash of its schedule's effect, and `prefill_s` and `decode_s`: for every
            batch the seconds per sample, the median of the repeats. The vision tower is part of the
            prefill.
        samples: number of samples per batch.
        repeats: number of timed repeats of every batch, after a warm-up.
        machine: the device and the number of threads.
    """

    arms: Mapping[str, Mapping[str, Any]]
    samples: int
    repeats: int
    machine: str

    @classmethod
    def load(cls, directory: Path) -> Self | None:
        """Read the times from a directory of results; None where nothing was timed."""
        if not (directory / FILE).exists():
            return None
        path = directory / FILE
        content = read_sealed(path, ResultsError, "delete it and run the same command again")
        keys = {"arms": dict, "samples": int, "repeats": int, "machine": str}
        require(content, path, ResultsError, keys)
        return cls(**{key: content[key] for key in keys})

    def save(self, directory: Path) -> None:
        """Write the times to a file, whole or not at all."""
        write_sealed(directory / FILE, asdict(self))

    def of(self, name: str, arms: Sequence[str]) -> NDArray[np.float64]:
        """Values of `prefill_s` or `decode_s` for some arms: seconds, float64 [batches, arms]."""
        return np.array([self.arms[arm][name] for arm in arms], dtype=np.float64).T

    def covers(self, schedules: Mapping[str, Schedule | None]) -> bool:
        """Whether all these arms were timed with the schedules they have now."""
        return all(
            self.arms.get(arm, {}).get("schedule") == schedule_hash(schedule)
            for arm, schedule in schedules.items()
        )


def schedule_hash(schedule: Schedule | None) -> str:
    """Hash of a schedule's effect; None is the unpruned model."""
    return hash_json(schedule and effective_schedule(schedule))
