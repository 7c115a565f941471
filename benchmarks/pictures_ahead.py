"""Whether it pays to prepare the next batch's pictures in a thread: `run` with it and without.

    python -m benchmarks.pictures_ahead --pictures 24 --megapixels 12 --turns 3

Answers of `tiny-qwen2-vl`, unpruned and by a schedule, about random pictures of that size, by each
way in turns. Printed is the wall time with the thread over that without; answers must be the same.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import tokenlens as tl
from tokenlens.evaluation.comparing.compare import compare
from tokenlens.evaluation.running import tasks
from tokenlens.samples.sample import Sample


def in_turn(vlm: tl.VLM, prepare: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
    """Prepare every batch when its turn comes."""
    return (prepare(vlm, item) for item in items)


WAYS = {"ahead": tasks.prepared_ahead, "in turn": in_turn}


def pictures(count: int, megapixels: float, folder: Path) -> list[Sample]:
    """Samples about files of random pictures, 4 by 3."""
    size = round((megapixels * 4 / 3 * 1e6) ** 0.5), round((megapixels * 3 / 4 * 1e6) ** 0.5)
    for index in range(count):
        noise = Image.effect_noise((size[0] // 16, size[1] // 16), 64).convert("RGB")
        noise.resize(size).save(folder / f"{index}.jpg", quality=90)
    return [Sample(str(index), folder / f"{index}.jpg", "what is it ?") for index in range(count)]


def main() -> None:
    """Print a line for every turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    vlm = tl.load("tiny-qwen2-vl")
    schedules = {"swiftvlm": tl.Schedule.preset("swiftvlm", vlm, budget="33%")}
    with tempfile.TemporaryDirectory() as folder:
        samples = pictures(given.pictures, given.megapixels, Path(folder))
        for turn in range(given.turns + 1):
            seconds, answers = {}, {}
            for name in WAYS if turn % 2 else reversed(WAYS):
                tasks.prepared_ahead = WAYS[name]
                began = time.perf_counter()
                out = Path(folder) / f"{name}-{turn}"
                found = compare(vlm, samples, schedules, out, timed=False).arms["swiftvlm"]
                seconds[name] = time.perf_counter() - began
                answers[name] = found.outcomes["prediction"].tolist()
            if answers["ahead"] != answers["in turn"]:
                raise SystemExit("the answers differ")
            if turn:  # the first one warms up
                ratio = seconds["ahead"] / seconds["in turn"]
                print(
                    f"{given.threads} threads: {ratio:.2f} of {seconds['in turn']:.2f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
