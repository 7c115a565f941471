"""What was measured on the paths that the preset `tokenlens` chooses from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from tokenlens.errors import ResultsError
from tokenlens.measures.divergence import Floats
from tokenlens.measures.intervals import bootstrap_interval
from tokenlens.schedule.layer_needs import PathLoss
from tokenlens.storage.shards import ShardReader

KIND = "paths"
FOLDER = "paths"
"""Folder of the rows, within that of the curves' rows."""


@dataclass(frozen=True)
class PathLosses:
    """What was measured on the paths.

    Attributes:
        arms: name of the path and share of the MACs, of every arm.
        tasks: task of each sample.
        kl: divergence in nats per answer token, float64 [samples, arms].
        agreement: share of the answer tokens that stay the most likely, likewise.
        same: 1 where all of them do, likewise.
    """

    arms: tuple[tuple[str, float], ...]
    tasks: tuple[str, ...]
    kl: Floats
    agreement: Floats
    same: Floats

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read a finished directory; raises `ResultsError` for any other one."""
        reader = ShardReader(directory, KIND)
        if not reader.complete:
            raise ResultsError(
                f"{directory} is not finished; run `tokenlens information` again to continue it"
            )
        rows = list(reader.rows())
        arms = tuple((str(path), float(share)) for path, share in reader.manifest["arms"])
        stacked = (np.stack([row[name] for row in rows]) for name in ("kl", "agreement", "same"))
        return cls(arms, tuple(row["task"] for row in rows), *stacked)

    @property
    def losses(self) -> tuple[PathLoss, ...]:
        """Of each path the divergence by share of the MACs; every task has the same weight."""
        tasks = np.asarray(self.tasks)
        means = [self.kl[tasks == task].mean(axis=0) for task in dict.fromkeys(self.tasks)]
        loss = np.mean(means, axis=0).tolist()
        found: dict[str, list[tuple[float, float]]] = {}
        for (path, share), value in zip(self.arms, loss, strict=True):
            found.setdefault(path, []).append((share, value))
        return tuple(
            PathLoss(path, *map(tuple, zip(*points, strict=True))) for path, points in found.items()
        )

    def table(self) -> pd.DataFrame:
        """`path`, `macs`, `samples`, `kl`, and `same` (of answers) with its `low` and `high`."""
        ends = np.stack(bootstrap_interval(self.same)).T.tolist()
        rows = [
            (path, share, len(self.tasks), float(kl), *same)
            for (path, share), kl, same in zip(self.arms, self.kl.mean(axis=0), ends, strict=True)
        ]
        return pd.DataFrame(rows, columns=["path", "macs", "samples", "kl", "same", "low", "high"])
