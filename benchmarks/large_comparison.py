"""What do tables, files and report of a very large comparison take? Time and memory.

    python -m benchmarks.large_comparison --samples 10000 --methods 15 --budgets 2

Rows like those of real runs, of 576 visual tokens, are fabricated without a model. Each step then
runs in a process of its own, and says what it took and the most memory that it held. The bounds
that the project sets itself are 60 s and 1.5 GB.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.evaluation.comparing.table_files import write_tables
from tokenlens.evaluation.comparing.tables import budget_tables
from tokenlens.evaluation.running.results import ROW_SCHEMA
from tokenlens.reports.report import report
from tokenlens.schedule import Schedule
from tokenlens.storage.output_paths import slug
from tokenlens.storage.run_directory import MANIFEST, MANIFEST_SCHEMA
from tokenlens.storage.seals import write_sealed
from tokenlens.storage.shards import ShardStore

SIDE, LAYERS, FIRST, TASKS = 24, 28, 5, 8
TOKENS = SIDE * SIDE
MODEL = {"id": "fabricated", "revision": None, "config_hash": "0" * 16, "dtype": "float32"}


def fabricate(directory: Path, samples: int, methods: int, budgets: int) -> None:
    """Write a comparison of so many samples, methods and budgets, the unpruned model first."""
    names = {
        f"{20 + 10 * budget} %": {
            f"method-{method}": f"method-{method} {20 + 10 * budget} %" for method in range(methods)
        }
        for budget in range(budgets)
    }
    arms = {"unpruned": None} | {
        arm: _schedule(0.6 - 0.1 * place)
        for place, by_method in enumerate(names.values())
        for arm in by_method.values()
    }
    identities = {arm: _identity(schedule, samples) for arm, schedule in arms.items()}
    for number, (arm, schedule) in enumerate(arms.items()):
        rng = np.random.default_rng(number)
        info = {"schedule": schedule and schedule.as_json()}
        folder = directory / slug(arm)
        with ShardStore.open(folder, "results", identities[arm], ROW_SCHEMA, info) as store:
            for place in range(samples):
                store.append({**_sample(place), **_outcome(rng, schedule)})
            store.finish()
    summary = {"versions": {}, "arms": identities, "plan": {"budgets": names}}
    write_sealed(directory / "summary.json", summary)
    write_sealed(directory / MANIFEST, {"schema": MANIFEST_SCHEMA, "kind": "comparison"})


def _identity(schedule: Schedule | None, samples: int) -> dict[str, Any]:
    data = {"source": "fabricated", "split": None, "hash": "0" * 16, "samples": samples}
    return {
        "model": MODEL,
        "data": data,
        "generation": {"max_new_tokens": 16},
        "schedule": schedule and schedule.as_json(),
    }


def _schedule(keep: float) -> Schedule:
    stages = [
        {"score_layer": layer, "when": "after", "keep": keep**place, "disposal": "drop"}
        for place, layer in enumerate((3, 11, 15), start=1)
    ]
    model = {"id": "fabricated", "architecture": "Fabricated", "layers": LAYERS}
    return Schedule(schema=1, method="pdrop", model=model, stages=stages)


_EDGES = np.linspace(0, 1, SIDE + 1, dtype=np.float32)
_ROWS, _COLUMNS = np.divmod(np.arange(TOKENS), SIDE)
_BOXES = np.stack(
    [_EDGES[_COLUMNS], _EDGES[_ROWS], _EDGES[_COLUMNS + 1], _EDGES[_ROWS + 1]], axis=1
).flatten()
_POSITIONS = np.arange(FIRST, FIRST + TOKENS)


def _sample(place: int) -> dict[str, Any]:
    return {
        "id": f"sample-{place}",
        "task": f"task {place % TASKS}",
        "question": f"what is at place {place} of this picture?",
        "answers": [f"thing {place % 50}"],
        "image": f"pictures/{place}.jpg",
        "size": (336, 336),
        "region_boxes": [(10.0, 10.0, 90.0, 90.0)],
        "polygons": [],
        "positions": _POSITIONS,
        "boxes": _BOXES,
        "grid": [(1, SIDE, SIDE)],
        "metric": "",
        "group": "",
    }


def _outcome(rng: np.random.Generator, schedule: Schedule | None) -> dict[str, Any]:
    tokens = schedule.tokens_entering(TOKENS, LAYERS) if schedule else [TOKENS] * LAYERS
    kept = [tokens[layer] for layer in (3, 11, 15)] if schedule else []
    selected = [
        np.sort(FIRST + rng.choice(TOKENS, size=count, replace=False)).tolist() for count in kept
    ]
    return {
        "prediction": f"thing {rng.integers(50)}",
        "score": float(rng.random() < 0.7),
        "tokens_per_layer": tokens,
        "macs": 1e9 * sum(tokens) + rng.random(),
        "scoring_macs": 1e6 * len(kept),
        "merging_macs": 0.0,
        "kv_bytes": 1024.0 * sum(tokens),
        "prefill_s": None,
        "decode_s": None,
        "new_tokens": 4,
        "selected": json.dumps(selected),
    }


def _tables(directory: Path) -> None:
    comparison = Comparison.load(directory)
    comparison.table()
    write_tables(directory, budget_tables(comparison))


def _report(directory: Path) -> None:
    report(directory)


STEPS: Mapping[str, Callable[[Path], None]] = {"tables and files": _tables, "report": _report}


def main() -> None:
    """Print what each step took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name, default in (("samples", 10_000), ("methods", 15), ("budgets", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--folder", type=Path, help="keep what is fabricated there")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        began = time.perf_counter()
        STEPS[given.step](given.folder)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        taken, own = time.perf_counter() - began, time.process_time()
        print(f"{given.step}: {taken:.1f} s ({own:.1f} s of processor), {most:.2f} GiB at most")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary) / "fabricated" / "compare"
        if not folder.exists():
            fabricate(folder, given.samples, given.methods, given.budgets)
        print(f"{given.samples} samples, {given.methods} methods, {given.budgets} budgets")
        for step in STEPS:
            words = [__spec__.name, "--folder", str(folder), "--step", step]
            subprocess.run([sys.executable, "-m", *words], check=True)  # noqa: S603 - this file


if __name__ == "__main__":
    main()
