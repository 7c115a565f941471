"""One run of a model over samples: a row per sample, scores per task, and what it cost."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tokenlens.errors import ResultsError
from tokenlens.evaluation.answering import Answer
from tokenlens.evaluation.metrics import score
from tokenlens.models.vlm import Layout
from tokenlens.samples.sample import Sample
from tokenlens.store import ShardReader

KIND = "results"
ALL, MACRO = "all", "macro"
"""The summaries over tasks: mean over samples, and mean over the tasks' means."""

ROW_SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "task": pa.string(),
        "question": pa.string(),
        "answers": pa.list_(pa.string()),
        "image": pa.string(),
        "size": pa.list_(pa.int32()),
        "region_boxes": pa.list_(pa.list_(pa.float64())),
        "polygons": pa.list_(pa.list_(pa.list_(pa.float64()))),
        "positions": pa.list_(pa.int32()),
        "boxes": pa.list_(pa.float32()),
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
    }
)
"""A row. `macs` counts the whole prefill of the decoder, scoring and merging included; `kv_bytes`
is of the cache after it; `score` is null without ground truth; `selected` is JSON, per stage the
selected positions in the sample's own sequence. Picture, region and visual tokens (`image` to
`boxes`) are written as in a profile."""


def result_row(
    sample: Sample, size: tuple[int, int], layout: Layout, answer: Answer
) -> dict[str, Any]:
    """The row of one answered sample, whose picture is of `size` (width, height) in pixels."""
    points = score(answer.prediction, sample, size)
    return {
        "id": sample.id,
        "task": sample.task,
        "question": sample.question,
        "answers": list(sample.answers),
        "image": str(sample.image) if isinstance(sample.image, Path) else "",
        "size": size,
        "region_boxes": sample.boxes,
        "polygons": sample.polygons,
        "positions": layout.positions.numpy(),
        "boxes": layout.boxes.flatten().numpy(),
        "prediction": answer.prediction,
        "score": None if isnan(points) else points,
        "tokens_per_layer": answer.tokens_per_layer,
        "macs": answer.macs,
        "scoring_macs": answer.scoring_macs,
        "merging_macs": answer.merging_macs,
        "kv_bytes": answer.kv_bytes,
        "prefill_s": answer.prefill_s,
        "decode_s": answer.decode_s,
        "new_tokens": answer.new_tokens,
        "selected": json.dumps(answer.selected),
    }


@dataclass(frozen=True)
class Results:
    """The answers of one run.

    Attributes:
        rows: one row per sample, in the samples' order, with the columns of `ROW_SCHEMA`.
        identity: model, data, generation options and schedule of the run.
    """

    rows: pd.DataFrame
    identity: Mapping[str, Any]

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """Read what a finished run wrote; `ResultsError` where there is none."""
        reader = ShardReader(directory, KIND)
        if not reader.complete:
            raise ResultsError(
                f"{directory} holds an unfinished run ({len(reader)} rows); finish it by the same "
                "command that began it"
            )
        return cls(reader.table(ROW_SCHEMA.names), reader.identity)

    @property
    def tokens_per_layer(self) -> NDArray[np.float64]:
        """Visual tokens entering each layer, mean over samples: [layers]."""
        return np.mean(np.stack(self.rows["tokens_per_layer"].to_list()), axis=0)

    @property
    def metrics(self) -> dict[str, Any]:
        """Means over the run, JSON values throughout.

        `score` per task, over `all` samples and as `macro` average of the tasks, None where no
        sample has ground truth; `samples` and how many of them are `unscored`; and per sample
        `tokens` (the layer average), `macs`, `kv_bytes`, `prefill_s`, `decode_s`.
        """
        scores = {
            name: float(np.mean([rows["score"].mean() for rows in strata]))
            for name, strata in task_groups(self.rows)
        }
        return {
            "score": {name: None if isnan(value) else value for name, value in scores.items()},
            "samples": len(self.rows),
            "unscored": int(self.rows["score"].isna().sum()),
            "tokens": float(self.tokens_per_layer.mean()),
            **{
                name: float(self.rows[name].mean())
                for name in ("macs", "kv_bytes", "prefill_s", "decode_s")
            },
        }


def task_groups(rows: pd.DataFrame) -> list[tuple[str, list[pd.DataFrame]]]:
    """What scores are averaged over: (name, strata), the mean being that of the strata's means.

    Every task is one stratum of its own, in order of appearance; `all` is one stratum of every row;
    `macro` has the tasks that are scored at all as its strata.
    """
    tasks = {str(name): group for name, group in rows.groupby("task", sort=False)}
    scored = [group for group in tasks.values() if group["score"].notna().any()]
    return [*((name, [group]) for name, group in tasks.items()), (ALL, [rows]), (MACRO, scored)]
