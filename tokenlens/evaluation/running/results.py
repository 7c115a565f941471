"""Results of one run over samples: a row per sample, scores per task, and costs."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from math import isnan, nan
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tokenlens.errors import ResultsError
from tokenlens.evaluation.metrics.agreement import agreement
from tokenlens.evaluation.metrics.set_metrics import set_figures
from tokenlens.probing.sample_columns import SAMPLE_COLUMNS, SEVERAL_COLUMNS
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
_BULKY = {"region_boxes", "polygons", "positions", "boxes", "grid", "selected"} | (
    SEVERAL_COLUMNS.keys() - {"more_images"}
)


class Results:
    """The answers of one run.

    Attributes:
        identity: model, data, generation options and schedule of the run.
        reference: the unpruned model's answers to the same samples, by the index of `rows`; None
            where it was not run.
    """

    def __init__(
        self,
        rows: pd.DataFrame | ShardReader,
        identity: Mapping[str, Any],
        reference: pd.Series | None = None,
    ) -> None:
        """Take rows with the columns of `ROW_SCHEMA`, or a store that is read when asked for."""
        self._source = rows
        self.identity = identity
        self.reference = reference

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """Open the results of a finished run, whose files are checked now and read when needed.

        Raises `ResultsError` where there is none.
        """
        reader = ShardReader(directory, KIND)
        if not reader.complete:
            raise ResultsError(
                f"{directory} holds an unfinished run; finish it by the same command that began it"
            )
        require(reader.manifest, reader.directory / MANIFEST, ResultsError, _MANIFEST_KEYS)
        return cls(reader, reader.identity)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row per sample, in the samples' order, with the columns of `ROW_SCHEMA`."""
        if isinstance(self._source, pd.DataFrame):
            return self._source
        return self._read(ROW_SCHEMA.names)

    @property
    def outcomes(self) -> pd.DataFrame:
        """The rows without the columns that grow with visual tokens, and with their mean number.

        `tokens` takes the place of `tokens_per_layer`: its mean over layers; `text_only` tells the
        samples without a picture. Some hundred bytes a row, so that many runs fit in memory.
        """
        return self._lean[0]

    @property
    def tokens_per_layer(self) -> NDArray[np.float64]:
        """Visual tokens entering each layer, mean over samples: float64 [layers]."""
        return self._lean[1]

    @cached_property
    def _lean(self) -> tuple[pd.DataFrame, NDArray[np.float64]]:
        """`outcomes` and `tokens_per_layer`, read together."""
        rows = self._read([name for name in ROW_SCHEMA.names if name not in _BULKY])
        layers = np.stack(rows.pop("tokens_per_layer").to_list())
        if "size" in rows:
            rows["text_only"] = [not any(size) for size in rows.pop("size")]
        return rows.assign(tokens=layers.mean(axis=1)), layers.mean(axis=0)

    def at(self, places: Collection[int]) -> pd.DataFrame:
        """The rows at these places, counted from 0, in order; the others are not kept in memory."""
        if isinstance(self._source, pd.DataFrame):
            return self._source.iloc[sorted(set(places))]
        names = ROW_SCHEMA.names
        return _as_rows(pd.concat(self._source.tables(names, places)), names)

    def by_place(self, places: Collection[int]) -> dict[int, pd.Series]:
        """The same rows, each by its place."""
        order = sorted(set(places))
        if not order:
            return {}
        rows = self.at(order)
        return {place: rows.iloc[number] for number, place in enumerate(order)}

    def kept(self, reference: pd.Series | None = None) -> "Results":
        """The same in memory, with what they are compared with, if anything."""
        return Results(self.rows, self.identity, reference)

    def parts(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """These columns of the rows, a part of the rows at a time."""
        if isinstance(self._source, pd.DataFrame):
            yield self._source[[name for name in self._source if name in names]]
        else:
            yield from (_as_rows(part, names) for part in self._source.tables(names))

    def _read(self, names: Sequence[str]) -> pd.DataFrame:
        return pd.concat(self.parts(names))

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
            for name, strata in task_groups(self.outcomes)
        }
        return {
            "score": {name: None if isnan(value) else value for name, value in scores.items()},
            "agreement": self._agreement(),
            "figures": self._figures(),
            "samples": len(self.outcomes),
            "unscored": int(self.outcomes["score"].isna().sum()),
            "text_only": int(self.outcomes["text_only"].sum()),
            "tokens": float(self.tokens_per_layer.mean()),
            **{
                name: float(self.outcomes[name].mean())
                for name in ("macs", "kv_bytes", "prefill_s", "decode_s")
            },
        }

    def _agreement(self) -> dict[str, float] | None:
        """Mean agreement per task, over all samples, and as mean of the tasks."""
        if self.reference is None:
            return None
        agreed = agreement(self.outcomes["prediction"], self.reference)
        tasks = agreed.groupby(self.outcomes["task"], sort=False).mean()
        means = {str(task): float(mean) for task, mean in tasks.items()}
        return {**means, ALL: float(agreed.mean()), MACRO: float(tasks.mean())}

    def _figures(self) -> dict[str, dict[str, float | None]]:
        found: dict[str, dict[str, float | None]] = {}
        for task, name, value in set_figures(self.outcomes):
            found.setdefault(task, {})[name] = None if isnan(value) else value
        return found


def _as_rows(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Runs of earlier versions have no columns for the metric, the group and several pictures."""
    for name in set(names).difference(table):
        table[name] = None if name in SEVERAL_COLUMNS else ""
    return table[list(names)]


def task_groups(rows: pd.DataFrame) -> list[tuple[str, list[pd.DataFrame]]]:
    """Groups for averages of scores: (name, strata); the average is the mean of the strata's means.

    Every task is one stratum of its own, in order of appearance; `all` is one stratum of every row;
    the strata of `macro` are the tasks with at least one score.
    """
    tasks = {str(name): group for name, group in rows.groupby("task", sort=False)}
    scored = [group for group in tasks.values() if group["score"].notna().any()]
    return [*((name, [group]) for name, group in tasks.items()), (ALL, [rows]), (MACRO, scored)]
