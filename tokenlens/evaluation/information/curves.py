"""Measured information curves: means over samples with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tokenlens.errors import ResultsError, SelectionError
from tokenlens.evaluation.information.path_losses import FOLDER, PathLosses
from tokenlens.evaluation.information.path_losses import KIND as PATHS
from tokenlens.measures.intervals import Interval, bootstrap_interval
from tokenlens.schedule import Why
from tokenlens.schedule.layer_needs import LayerNeeds
from tokenlens.selection.criteria import Capability
from tokenlens.selection.criterion_names import AGREEMENT
from tokenlens.storage.invocation import current_command
from tokenlens.storage.run_directory import MANIFEST, read_manifest
from tokenlens.storage.shards import ShardReader

CURVES = ("horizon", "contribution", "aside", "capability", "random")
"""Names of the curves; `information.arms` says what each withholds."""
Measure = Literal["kl", "agreement"]
MEASURES: tuple[Measure, ...] = ("kl", "agreement")
KIND = "information"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Information:
    """Change of a model's confidence in its own answer, by layer and curve (`information.arms`).

    `horizon`, `contribution`, `aside`, `capability` and `random` are the divergences, float64
    [layers], in nats per answer token; `interval` gives them, and the agreements, with intervals.

    Attributes:
        identity: model, data and options.
        tasks: task of each sample.
        values: per curve and measure, float64 [samples, layers], means over answer tokens.
        answer_tokens: number of answer tokens of each sample.
        paths: what is lost on whole paths, where that was measured (`information.path_losses`).
    """

    identity: dict[str, Any]
    tasks: tuple[str, ...]
    values: dict[tuple[str, Measure], Floats]
    answer_tokens: tuple[int, ...]
    paths: PathLosses | None = None

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """Read a finished directory; raises `ResultsError` for any other directory."""
        reader = ShardReader(directory, KIND)
        if not reader.complete:
            raise ResultsError(
                f"{directory} is not finished; run `tokenlens information` again to continue it"
            )
        rows = list(reader.rows())
        layers = reader.manifest["layers"]
        if any(f"{curve}_kl" not in rows[0] for curve in CURVES):
            raise ResultsError(
                f"{directory} was measured by an earlier version, without all of the curves "
                f"{', '.join(CURVES)}; measure it again in another directory"
            )
        values: dict[tuple[str, Measure], Floats] = {
            (curve, measure): np.stack(
                [row[f"{curve}_{measure}"].reshape(layers, -1).mean(axis=1) for row in rows]
            )
            for curve in CURVES
            for measure in MEASURES
        }
        tasks = tuple(row["task"] for row in rows)
        lengths = tuple(row["answer_tokens"] for row in rows)
        return cls(reader.identity, tasks, values, lengths, _paths(Path(directory) / FOLDER))

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return int(self.values["horizon", "kl"].shape[1])

    @property
    def horizon(self) -> Floats:
        """Divergence with all visual tokens removed from each layer on: [layers]."""
        return self._mean("horizon")

    @property
    def contribution(self) -> Floats:
        """Divergence with visual tokens not updated by each layer alone: [layers]."""
        return self._mean("contribution")

    @property
    def aside(self) -> Floats:
        """Divergence without visual tokens in each layer alone: [layers]."""
        return self._mean("aside")

    @property
    def needs(self) -> LayerNeeds:
        """Divergence caused by each layer without visual tokens, or without updating them.

        In nats per answer token, the mean over samples of the task that loses most. With them
        goes what is lost on whole paths, where that was measured.
        """
        update, read = (self._worst_task(curve) for curve in ("contribution", "aside"))
        return LayerNeeds(update, read, self.paths.losses if self.paths else ())

    @property
    def why(self) -> Why:
        """The record of how layers were chosen, for a schedule."""
        data = self.identity["data"]
        return Why(
            criterion=KIND,
            scores=self.needs.read,
            data=data["source"],
            split=data["split"],
            tokenlens=version("tokenlens"),
            date=datetime.now(UTC).date().isoformat(),
            command=current_command(),
        )

    @property
    def capability(self) -> Floats:
        """Divergence with only each layer's highest-ranked tokens from layer 3 on: [layers]."""
        return self._mean("capability")

    @property
    def random(self) -> Floats:
        """Divergence with a random share of tokens from each layer on: [layers]."""
        return self._mean("random")

    def interval(
        self, curve: str, measure: Measure = "kl", task: str | None = None, seed: int = 0
    ) -> Interval:
        """Mean, low and high end of the 95 % bootstrap interval over samples, [layers] each.

        Args:
            curve: one of `CURVES`.
            measure: "kl" in nats per answer token, or "agreement", the share of answer tokens that
                stay the most likely.
            task: restricts to the samples of this task; None takes all.
            seed: seed of the bootstrap.
        """
        values = self.values[curve, measure]
        chosen = values if task is None else values[[one == task for one in self.tasks]]
        return bootstrap_interval(chosen, seed=seed)

    def table(self) -> pd.DataFrame:
        """`task` (each, then `all`), `samples`, `curve`, `measure`, `layer`, `mean`, `low`, `high`.

        Every sample has the same weight, whatever the length of its answer.
        """
        rows = []
        for name in (*dict.fromkeys(self.tasks), None):
            count = len(self.tasks) if name is None else self.tasks.count(name)
            for curve, measure in self.values:
                ends = np.stack(self.interval(curve, measure, name)).T.tolist()
                for layer, (mean, low, high) in enumerate(ends, start=1):
                    rows.append((name or "all", count, curve, measure, layer, mean, low, high))
        names = ["task", "samples", "curve", "measure", "layer", "mean", "low", "high"]
        return pd.DataFrame(rows, columns=names)

    def as_capability(self) -> Capability:
        """Agreement with each layer's own choice of tokens, in the form of a capability.

        Raises `SelectionError` where the agreement is 0 for every layer.
        """
        agreed = self.values["capability", "agreement"]
        if not agreed.any():
            raise SelectionError(
                "criterion 'agreement': on no layer's choice of tokens does the model agree with "
                "its own answers; take a larger share"
            )
        places: dict[str, list[int]] = {}
        for place, task in enumerate(self.tasks):
            places.setdefault(task, []).append(place)
        return Capability(
            scores={task: agreed[rows] for task, rows in places.items()},
            unpruned=dict.fromkeys(places, 1.0),
            data=self.identity["data"]["source"],
            criterion=AGREEMENT,
        )

    def _worst_task(self, curve: str) -> tuple[float, ...]:
        values, tasks = self.values[curve, "kl"], np.asarray(self.tasks)
        means = [values[tasks == task].mean(axis=0) for task in dict.fromkeys(self.tasks)]
        worst: list[float] = np.max(means, axis=0).clip(min=0).tolist()
        return tuple(worst)

    def _mean(self, curve: str) -> Floats:
        mean: Floats = self.values[curve, "kl"].mean(axis=0)
        return mean


def _paths(directory: Path) -> PathLosses | None:
    """What was measured on paths; None where that was not done, or not to its end."""
    if not (directory / MANIFEST).is_file() or not read_manifest(directory, PATHS)["complete"]:
        return None
    return PathLosses.load(directory)


def horizon_layer(agreement_low: Sequence[float], least: float = 0.99) -> int | None:
    """The first layer from which agreement is `least` or more in all later ones; None without one.

    >>> horizon_layer([0.2, 0.9, 0.995, 1.0]), horizon_layer([0.0, 0.5])
    (3, None)
    """
    below = [place for place, value in enumerate(agreement_low, start=1) if value < least]
    after = max(below, default=0) + 1
    return after if after <= len(agreement_low) else None
