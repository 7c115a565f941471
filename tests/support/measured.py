"""An information profile, a search and a bench, written without a model for the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.support import synthetic
from tokenlens.benching.records import Bench
from tokenlens.benching.request import Cell
from tokenlens.evaluation.information.curves import CURVES, MEASURES
from tokenlens.storage.seals import write_sealed
from tokenlens.storage.shards import ShardStore
from tokenlens.tuning.goal import Goal
from tokenlens.tuning.trials import Trial
from tokenlens.tuning.tuning import HeldOut, Tuning

HORIZON = 5
"""The layer from which on the written profile loses nothing."""


def write_information(directory: Path, tasks: Sequence[str] = ("where", "what")) -> Path:
    """A finished information profile of four samples, two answer tokens each."""
    layers, tokens = synthetic.LAYERS, 2
    lists = {f"{curve}_{name}": pa.list_(pa.float64()) for curve in CURVES for name in MEASURES}
    schema = pa.schema(
        {"id": pa.string(), "task": pa.string(), "answer_tokens": pa.int32(), **lists}
    )
    identity = {
        "model": {key: value for key, value in synthetic.MODEL.items() if key != "layers"},
        "data": {**synthetic.DATA, "samples": 4},
        "options": {"share": 0.2, "max_new_tokens": 4, "seed": 0},
    }
    with ShardStore.open(
        directory, "information", identity, schema, info={"layers": layers}
    ) as store:
        for index in range(4):
            lost = np.where(np.arange(1, layers + 1) < HORIZON, 1.0 + index / 10, 0.0)
            row: dict[str, Any] = {
                "id": str(index),
                "task": tasks[index % len(tasks)],
                "answer_tokens": tokens,
            }
            for curve in CURVES:
                row[f"{curve}_kl"] = np.repeat(lost, tokens)
                row[f"{curve}_agreement"] = np.repeat(np.where(lost > 0, 0.5, 1.0), tokens)
            store.append(row)
        store.finish()
    return directory


def searched(goal: Goal | None = None, name: str = "fastv") -> Tuning:
    """A search of five trials: a preset, three proposals, and one that was given up."""
    rows = [(name, 0.3, 0.5), ("", 0.25, 0.7), ("", 0.4, 0.9), ("", 0.41, 0.6)]
    trials = [
        Trial(
            place,
            one,
            "finished",
            synthetic.schedule(),
            retained=score,
            low=score - 0.1,
            high=1,
            cost=cost,
        )
        for place, (one, cost, score) in enumerate(rows)
    ]
    lost = Trial(4, "", "hopeless", None, retained=0.1, low=0.0, high=0.2, cost=0.2)
    held = {1: HeldOut(0.65, 0.6, 0.7), 2: HeldOut(0.85, 0.8, 0.9)}
    cautions = ("these samples are synthetic",)
    return Tuning(goal or Goal.of("50%"), (*trials, lost), 40, held, 20, cautions=cautions)


def write_bench(path: Path, *, estimate: bool = False, model: str | None = "synthetic") -> Path:
    """The file of a bench of one method."""
    identity = {
        "model": model, "like": None if model else "qwen2-vl-2b", "layers": None if model else 8,
        "width": None, "dtype": "float32", "device_name": "cpu", "threads": 2, "rounds": 9,
    }  # fmt: skip
    row: dict[str, Any] = {
        "estimate": estimate, "visual": 576, "text": 64,
        "macs": {"unpruned": 100.0, "pruned": 40.0}, "kv_bytes": {"unpruned": 10, "pruned": 4},
    }  # fmt: skip
    if not estimate:
        share = {"median": 0.97, "low": 0.95, "high": 0.99}
        names = ("prefill", "whole", "efficiency", "engine-free efficiency", "decode")
        row["ratios"] = dict.fromkeys(names, share)
        row["peak_bytes"] = {"unpruned": None, "pruned": None}
    Bench(path, identity, []).add(Cell(576, 1, "swiftvlm", "33%"), row)
    return path


def write_search(directory: Path, tuning: Tuning | None = None) -> Path:
    """The folder of a finished search."""
    found = tuning or searched()
    identity = {
        "model": {key: value for key, value in synthetic.MODEL.items() if key != "layers"},
        "data": {**synthetic.DATA, "samples": found.samples},
        "goal": found.goal.as_json(),
        "seed": 0,
    }
    directory.mkdir(parents=True)
    content = {"schema": 1, "kind": "tuning", "identity": identity, "versions": {"tokenlens": "0"}}
    write_sealed(directory / "manifest.json", content)
    found.save(directory)
    return directory
