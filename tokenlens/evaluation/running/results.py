"""Results of one run over samples: a row per sample, scores per task, and costs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tokenlens.errors import ResultsError
from tokenlens.evaluation.metrics.agreement import agreement
from tokenlens.evaluation.metrics.boxes import BoxReader, parse_box
from tokenlens.evaluation.metrics.sample_metrics import score
from tokenlens.evaluation.metrics.set_metrics import set_figures
from tokenlens.evaluation.running.answer_cache import Answered
from tokenlens.probing.sample_rows import SAMPLE_COLUMNS, SEVERAL_COLUMNS, sample_row, several_row
from tokenlens.samples.sample import Sample
from tokenlens.storage.seals import require
from tokenlens.storage.shards import MANIFEST, ShardReader

KIND = "results"
ALL, MACRO = "all", "macro"
"""The summaries over tasks: mean over samples, and mean over the tasks' means."""

ROW_SCHEMA = pa.schema(
    {
        **SAMPLE_COLUMNS,
        "metric": pa.string(),
        "group": pa.string(),
        "prediction": pa.string(),
        "score": pa.float64(),
        "tokens_per_layer": pa.list_(pa.int32()),
        "macs": pa.float64(),
        "scoring_macs": pa.float64(),
        "merging_macs": pa.float64(),
        "kv_bytes": pa.float64(),
        "prefill_s": pa.float64(),
        "decode_s": pa.float64(),
        "new_tokens": pa.int32(),
        "selected": pa.string(),
        **SEVERAL_COLUMNS,
    }
)
"""A row: the sample with its metric and group, its score (null without ground truth), and its
`Answer`, whose field `selected` is JSON here; times are null where they were not taken."""
_MANIFEST_KEYS: dict[str, type | tuple[type, ...]] = {
    "identity.model.id": (str, type(None)),
    "identity.model.revision": (str, type(None)),
    "identity.model.config_hash": str,
    "identity.data.source": (str, type(None)),
    "identity.data.split": (str, type(None)),
    "identity.data.hash": str,
    "identity.data.samples": int,
    "identity.generation": dict,
    "identity.schedule": (dict, type(None)),
    "schedule": (dict, type(None)),
}
_MAY_LACK = ("score", "prefill_s", "decode_s")


def result_row(
    sample: Sample, answered: Answered, read_box: BoxReader = parse_box
) -> dict[str, Any]:
    """The row of one answered sample; `read_box` reads boxes as the model writes them."""
    answer = answered.answer
    points = score(answer.prediction, sample, answered.size, read_box)
    row = {
        **sample_row(sample, answered.sizes, answered.layout),
        **several_row(sample, answered.sizes, answered.layout),
        "metric": sample.metric,
        "group": sample.group,
        **asdict(answer),
        "score": points,
        "selected": json.dumps(answer.selected),
    }
    return {name: None if name in _MAY_LACK and isnan(row[name]) else row[name] for name in row}


@dataclass(frozen=True)
class Results:
    """The answers of one run.

    Attributes:
        rows: one row per sample, in the samples' order, with the columns of `ROW_SCHEMA`.
        identity: model, data, generation options and schedule of the run.
        reference: the unpruned model's answers to the same samples, by the index of `rows`; None
            where it was not run.
    """

    rows: pd.DataFrame
    identity: Mapping[str, Any]
    reference: pd.Series | None = None

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """Read the results of a finished run; raises `ResultsError` where there is none."""
        reader = ShardReader(directory, KIND)
        if not reader.complete:
            raise ResultsError(
                f"{directory} holds an unfinished run; finish it by the same command that began it"
            )
        require(reader.manifest, reader.directory / MANIFEST, ResultsError, _MANIFEST_KEYS)
        rows = reader.table(ROW_SCHEMA.names)
        # Runs of earlier versions have no columns for the metric, the group and several pictures.
        for name in (*SEVERAL_COLUMNS, "metric", "group"):
            if name not in rows:
                rows[name] = None if name in SEVERAL_COLUMNS else ""
        return cls(rows.reindex(columns=ROW_SCHEMA.names), reader.identity)

    @property
    def tokens_per_layer(self) -> NDArray[np.float64]:
        """Visual tokens entering each layer, mean over samples: float64 [layers]."""
        means: NDArray[np.float64] = np.mean(
            np.stack(self.rows["tokens_per_layer"].to_list()), axis=0
        )
        return means

    @property
    def metrics(self) -> dict[str, Any]:
        """Means over the run, JSON values throughout.

        `score` per task, over `all` samples and as `macro` average of the tasks, None where no
        sample has ground truth; `agreement` with the unpruned model's answers likewise (see
        `evaluation.metrics.agreement`), over all samples, None where there is no `reference`;
        `figures`, the benchmark figures of the whole set, per task (see
        `evaluation.metrics.set_metrics`); `samples`, how many of them are `unscored` and how many
        `text_only`, without a picture; and per sample `tokens` (the layer average), `macs`,
        `kv_bytes`, `prefill_s`, `decode_s`.
        """
        scores = {
            name: float(np.mean([rows["score"].mean() for rows in strata])) if strata else nan
            for name, strata in task_groups(self.rows)
        }
        return {
            "score": {name: None if isnan(value) else value for name, value in scores.items()},
            "agreement": self._agreement(),
            "figures": self._figures(),
            "samples": len(self.rows),
            "unscored": int(self.rows["score"].isna().sum()),
            "text_only": sum(not any(size) for size in self.rows["size"]),
            "tokens": float(self.tokens_per_layer.mean()),
            **{
                name: float(self.rows[name].mean())
                for name in ("macs", "kv_bytes", "prefill_s", "decode_s")
            },
        }

    def _agreement(self) -> dict[str, float] | None:
        """Mean agreement per task, over all samples, and as mean of the tasks."""
        if self.reference is None:
            return None
        agreed = agreement(self.rows["prediction"], self.reference)
        tasks = agreed.groupby(self.rows["task"], sort=False).mean()
        means = {str(task): float(mean) for task, mean in tasks.items()}
        return {**means, ALL: float(agreed.mean()), MACRO: float(tasks.mean())}

    def _figures(self) -> dict[str, dict[str, float | None]]:
        found: dict[str, dict[str, float | None]] = {}
        for task, name, value in set_figures(self.rows):
            found.setdefault(task, {})[name] = None if isnan(value) else value
        return found


def task_groups(rows: pd.DataFrame) -> list[tuple[str, list[pd.DataFrame]]]:
    """Groups for averages of scores: (name, strata); the average is the mean of the strata's means.

    Every task is one stratum of its own, in order of appearance; `all` is one stratum of every row;
    the strata of `macro` are the tasks with at least one score.
    """
    tasks = {str(name): group for name, group in rows.groupby("task", sort=False)}
    scored = [group for group in tasks.values() if group["score"].notna().any()]
    return [*((name, [group]) for name, group in tasks.items()), (ALL, [rows]), (MACRO, scored)]
