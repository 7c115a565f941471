"""Profiles and results written without a model, for the analyses and the report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from tokenlens.evaluation.running.results import ROW_SCHEMA
from tokenlens.probing.sample_columns import SAMPLE_COLUMNS, SEVERAL_COLUMNS
from tokenlens.schedule import Schedule
from tokenlens.schedule.token_counts import keep_count
from tokenlens.storage.files import write_json
from tokenlens.storage.output_paths import slug
from tokenlens.storage.shards import ShardStore

GRID, SIDE, FIRST = 6, 60, 5
"""Tokens along a side of a picture, its pixels, and the position of its first visual token."""
LAYERS, HEADS = 6, 2
MODEL = {
    "id": "synthetic",
    "revision": None,
    "architecture": "SyntheticForConditionalGeneration",
    "layers": LAYERS,
    "config_hash": "0123456789abcdef",
    "dtype": "float32",
}
DATA = {"source": "scenes", "split": "calibration", "hash": "fedcba9876543210"}
PROFILE_SCHEMA = pa.schema({**SAMPLE_COLUMNS, "importance": pa.list_(pa.float32())})


def schedule(**changes: Any) -> Schedule:
    """Two bypass stages and a drop."""
    return Schedule(
        schema=1,
        method="swiftvlm",
        model={key: MODEL[key] for key in ("id", "revision", "architecture", "layers")},
        stages=[
            {"score_layer": 3, "when": "after", "keep": 0.5, "disposal": "bypass", "merge": 0.1},
            {"score_layer": 5, "when": "before", "keep": 0.3, "disposal": "bypass", "merge": 0.1},
            {"score_layer": 6, "when": "before", "keep": 4, "disposal": "drop"},
        ],
        budget={"average": 0.333, "n_visual": GRID * GRID},
        why={"criterion": "region", "scores": [0.1] * LAYERS, "data": "scenes"},
    ).replace(**changes)


def sample(index: int, folder: Path, *, tasks: Sequence[str] = ("where", "what")) -> dict[str, Any]:
    """What profile and results both say of a sample; its picture is painted."""
    rng = np.random.default_rng(index)
    x, y = (int(place) * SIDE // GRID for place in rng.integers(0, GRID - 2, size=2))
    box = (x, y, x + 2 * SIDE // GRID, y + 2 * SIDE // GRID)
    picture = Image.new("RGB", (SIDE, SIDE), (90, 140, 150))
    ImageDraw.Draw(picture).ellipse(box, fill=(200, 60, 40))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"picture-{index}.png"
    picture.save(path)
    edges = np.linspace(0, 1, GRID + 1)
    rows, columns = np.divmod(np.arange(GRID * GRID), GRID)
    boxes = np.stack(
        [edges[columns], edges[rows], edges[columns + 1], edges[rows + 1]], axis=1
    ).astype(np.float32)
    return {
        "id": f"sample-{index}",
        "task": tasks[index % len(tasks)],
        "question": f"where is circle {index} ?",
        "answers": [f"at {x}, {y}"],
        "image": str(path),
        "size": (SIDE, SIDE),
        "region_boxes": [box] if index % 5 != 4 else [],
        "polygons": [],
        "positions": np.arange(FIRST, FIRST + GRID * GRID),
        "boxes": boxes.flatten(),
        "grid": [(1, GRID, GRID)],
    }


def importance(index: int) -> np.ndarray:
    """float32 [LAYERS, GRID * GRID], rows that sum to less than 1."""
    rng = np.random.default_rng(100 + index)
    weights = rng.gamma(0.6, size=(LAYERS, GRID * GRID))
    return (0.6 * weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def per_head(index: int) -> np.ndarray:
    """float32 [LAYERS, HEADS, GRID * GRID], whose mean over heads is `importance`."""
    shares = np.random.default_rng(200 + index).random((LAYERS, 1, GRID * GRID), np.float32)
    mean = importance(index)[:, None]
    return np.concatenate([mean * (1 - shares), mean * (1 + shares)], axis=1)


NO_MORE = dict.fromkeys(SEVERAL_COLUMNS)
"""The columns of further pictures, of a sample with one."""


SAID = ("a", "red", "circle")
"""The tokens of every sample's answer, where queries are stored."""


def query_importance(index: int) -> np.ndarray:
    """float32 [LAYERS, len(SAID), GRID * GRID], the rows that predicted `SAID`."""
    rows = [importance(1000 * (place + 1) + index) for place in range(len(SAID))]
    return np.stack(rows, axis=1)


def _queries(index: int) -> dict[str, Any]:
    """The columns of stored queries."""
    first = FIRST + GRID * GRID + 4
    return {
        "queries": np.arange(first, first + len(SAID)),
        "query_text": list(SAID),
        "query_importance": query_importance(index).flatten(),
    }


_QUERY_COLUMNS = {
    "queries": pa.list_(pa.int64()),
    "query_text": pa.list_(pa.string()),
    "query_importance": pa.list_(pa.float32()),
}


def write_profile(
    directory: Path,
    samples: Sequence[dict[str, Any]],
    *,
    heads: bool = False,
    queries: str = "last",
    kind: str = "attention",
) -> Path:
    """A finished profile of samples made by `sample`, with every head's maps where asked for.

    Its importance is said to be of that kind.

    With queries "generated" or "text" it holds the rows of `query_importance` too.
    """
    stored = queries != "last"
    identity = {
        "model": MODEL,
        "data": {**DATA, "samples": len(samples)},
        "options": {
            "per_head": heads,
            **({"queries": queries} if stored else {}),
            **({"importance": kind} if kind != "attention" else {}),
        },
    }
    info = {"layers": LAYERS, "heads": HEADS}
    column = {"per_head": pa.list_(pa.float32())} if heads else {}
    several = any("image_index" in row for row in samples)
    further, none = (SEVERAL_COLUMNS, NO_MORE) if several else ({}, {})
    known = dict(zip(PROFILE_SCHEMA.names, PROFILE_SCHEMA.types, strict=True))
    schema = pa.schema({**known, **further, **column, **(_QUERY_COLUMNS if stored else {})})
    with ShardStore.open(directory, "profile", identity, schema, info=info) as store:
        for index, row in enumerate(samples):
            more = {"per_head": per_head(index).flatten()} if heads else {}
            more |= _queries(index) if stored else {}
            store.append({**none, **row, "importance": importance(index).flatten(), **more})
        store.finish()
    return directory


def write_results(
    directory: Path,
    samples: Sequence[dict[str, Any]],
    arms: dict[str, Schedule] | None = None,
    plan: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """A finished comparison of the unpruned model with `arms`; `changes` go into every row."""
    runs: dict[str, Schedule | None] = {"unpruned": None, **(arms or {"swiftvlm": schedule()})}
    identities = {}
    for number, (arm, steps) in enumerate(runs.items()):
        content = steps and {
            key: value for key, value in steps.as_json().items() if key not in ("why", "budget")
        }
        identities[arm] = {
            "model": {key: MODEL[key] for key in ("id", "revision", "config_hash", "dtype")},
            "data": {**DATA, "split": "held-out", "samples": len(samples)},
            "generation": {"decoding": "greedy", "max_new_tokens": 16},
            "schedule": content,
        }
        folder = directory / slug(arm)
        info = {"schedule": steps and steps.as_json()}
        with ShardStore.open(folder, "results", identities[arm], ROW_SCHEMA, info) as store:
            for index, row in enumerate(samples):
                outcome = {**NO_MORE, **row, **_outcome(index, number, steps), **changes}
                store.append(outcome)
            store.finish()
    versions = {"tokenlens": "0", "torch": "0"}
    summary = {"versions": versions, "arms": identities, "plan": plan}
    write_json(directory / "summary.json", summary)
    write_json(directory / "manifest.json", {"schema": 1, "kind": "comparison"})
    return directory


def _outcome(index: int, number: int, steps: Schedule | None) -> dict[str, Any]:
    """Answer and cost of one sample in the arm of this number."""
    tokens = steps.tokens_entering(GRID * GRID, LAYERS) if steps else [GRID * GRID] * LAYERS
    selected = []
    for stage in steps.stages if steps else ():
        order = np.argsort(-importance(index)[stage.score_layer - 1], kind="stable")
        kept = np.sort(order[: keep_count(stage.keep, GRID * GRID)])
        selected.append((FIRST + kept).tolist())
    return {
        "metric": "",
        "group": "",
        "prediction": f"answer {index}",
        "score": float((index + number) % 7 != 0),
        "tokens_per_layer": tokens,
        "macs": 1e9 * sum(tokens),
        "scoring_macs": 1e6 * number,
        "merging_macs": 1e6 * number,
        "kv_bytes": 1024.0 * sum(tokens),
        "prefill_s": 0.001 * sum(tokens),
        "decode_s": 0.02,
        "new_tokens": 4,
        "selected": json.dumps(selected),
    }
