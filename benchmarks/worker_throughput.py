"""What a second worker is worth: samples per second by 1 worker and by 2, in turns.

    python -m benchmarks.worker_throughput --model tiny-qwen2-vl --samples 320 --rounds 3

Every turn is a process of its own that answers the same batches, unpruned, by workers of one thread
each. Starting Ray and loading the model are left out: the time is that from the answers to the
first quarter of the batches to the last answers. The workers of a turn need a free core each, and
the process that hands out batches some more. Written are `worker_throughput.json` and `.md`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import tokenlens as tl
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.evaluation.running.tasks import AnswerTask, answering_identity, start_answering
from tokenlens.models.fingerprint import model_identity
from tokenlens.storage.versions import machine, versions
from tokenlens.workers import Workers

SKIPPED = 4
"""One over the share of batches whose answers come before the time is taken."""


def turn(model: str, samples: int, batch_size: int, workers: int) -> dict[str, Any]:
    """Answer all batches by so many workers; what that took, loading left out."""
    load = partial(tl.load, model, device="cpu")
    asked = list(tl.load_samples("scenes", "held-out", limit=samples))
    options = RunOptions(batch_size=batch_size)
    tasks = [
        AnswerTask(asked[first : first + batch_size], [None], options)
        for first in range(0, len(asked), batch_size)
    ]
    start = partial(start_answering, load, answering_identity(model_identity(load())))
    busy = os.getloadavg()[0]
    ends = [time.perf_counter() for _ in Workers(workers, load).map(start, tasks)]
    skipped = max(1, len(tasks) // SKIPPED)
    counted = sum(len(task.samples) for task in tasks[skipped:])
    seconds = ends[-1] - ends[skipped - 1]
    return {
        "workers": workers,
        "samples": counted,
        "seconds": seconds,
        "per_second": counted / seconds,
        "load_before": busy,
    }


def apart(options: argparse.Namespace, workers: int) -> dict[str, Any]:
    """A turn in a process of its own, with a Ray of its own."""
    given = (options.model, options.samples, options.batch_size, workers)
    words = [sys.executable, "-m", "benchmarks.worker_throughput", "--turn", json.dumps(given)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if ended.returncode:
        raise RuntimeError(ended.stderr[-2000:])
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def summary(turns: list[dict[str, Any]]) -> dict[str, float]:
    """Medians over turns of samples per second, and their ratio."""
    one, two = (
        statistics.median(each["per_second"] for each in turns if each["workers"] == workers)
        for workers in (1, 2)
    )
    return {"one": one, "two": two, "ratio": two / one}


def markdown(found: dict[str, Any]) -> str:
    """The turns and their summary, as tables."""
    lines = ["| workers | samples | seconds | samples per second | load before |"]
    lines += ["| ---: | ---: | ---: | ---: | ---: |"]
    for each in found["turns"]:
        lines.append(
            f"| {each['workers']} | {each['samples']} | {each['seconds']:.1f} "
            f"| {each['per_second']:.2f} | {each['load_before']:.1f} |"
        )
    whole = found["summary"]
    lines += [
        "",
        f"Medians over {len(found['turns']) // 2} turns each, {found['model']}: "
        f"{whole['one']:.2f} samples per second by one worker, {whole['two']:.2f} by two, "
        f"{whole['ratio']:.2f} times as many.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure in turns, and write and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny-qwen2-vl")
    parser.add_argument("--samples", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build/worker-throughput"))
    parser.add_argument("--turn", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        print(json.dumps(turn(*options.turn)))
        return
    turns = [apart(options, workers) for _ in range(options.rounds) for workers in (1, 2)]
    found = {
        "model": options.model,
        "batch_size": options.batch_size,
        "turns": turns,
        "summary": summary(turns),
        "machine": machine(),
        "versions": versions(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    written = options.out / "worker_throughput.json"
    written.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    table = markdown(found)
    written.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table, end="")


if __name__ == "__main__":
    main()
