"""Score a model on the held-out scenes: `python -m tokenlens.data.training.score [MODEL]`.

Greedy decoding by stock transformers, nothing pruned, the weights loaded in float32 as they were
saved. Prints a line per task, and one each for the tasks of one look and of two.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

import pandas as pd

from tokenlens.evaluation.running.evaluate import evaluate
from tokenlens.measures.intervals import bootstrap_interval
from tokenlens.models.loading import load
from tokenlens.samples.dataset import load_samples

DEEP = "deep-"
"""What the names of tasks of two looks begin with."""


def groups(rows: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """Scores per task, then over all tasks of one look, then over all of two."""
    yield from ((str(task), part["score"]) for task, part in rows.groupby("task", sort=False))
    deep = rows["task"].str.startswith(DEEP)
    yield "one look", rows.loc[~deep, "score"]
    yield "two looks", rows.loc[deep, "score"]


def main() -> None:
    """Print the scores with their 95 % bootstrap intervals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="tiny-qwen2-vl", help="name or directory")
    parser.add_argument("--data", default="scenes", help="name, manifest or directory")
    options = parser.parse_args()
    began = time.monotonic()
    samples = load_samples(options.data, "held-out")
    rows = evaluate(load(options.model), samples, batch_size=32, show_progress=True).rows
    for name, scores in groups(rows):
        mean, low, high = (100 * float(value) for value in bootstrap_interval(scores))
        right = f"{scores.sum():5.0f} of {len(scores):4}"
        sys.stdout.write(f"{name:18}{right}{mean:8.1f} % [{low:.1f}, {high:.1f}]\n")
    sys.stdout.write(f"{time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main()
