"""Prefill under the same schedules by two checkouts of tokenlens, in turns: is one slower?

    python benchmarks/two_checkouts.py OLD NEW

Each checkout runs in a process of its own, with the same random-weight Qwen2-VL decoder, and the
two take turns. Printed is the ratio new over old per schedule, median and quartiles over turns.
Times are of the process on all its threads.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PRESETS = ("swiftvlm", "fastv", "stride")
SERVE = """
import sys, json
sys.path[:0] = [{checkout!r}, {benchmarks!r}]
import torch, tokenlens as tl
from probing_generation import WIDTHS, clock, inputs_of, model_of
size = dict(WIDTHS["4 layers of Qwen2-VL-2B's width"], layers={layers})
model, n = model_of(**size), 24 * 24
inputs = inputs_of(model, 1, words=32)
plans = {{
    name: tl.Schedule.preset(name, model, budget=0.8, n_visual=n, n_text=34) for name in {presets!r}
}}
for line in sys.stdin:
    with torch.inference_mode(), tl.prune(model, plans[line.strip()]):
        model(**inputs, logits_to_keep=1)
        began = clock(model)
        model(**inputs, logits_to_keep=1)
    print(json.dumps(clock(model) - began), flush=True)
"""


def serve(checkout: Path, layers: int) -> subprocess.Popen[str]:
    """A process that prefills by the code of a checkout whenever it is asked to."""
    code = SERVE.format(
        checkout=str(checkout.resolve()), benchmarks=str(HERE), layers=layers, presets=PRESETS
    )
    return subprocess.Popen(  # noqa: S603 - this file, in another checkout
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
    )


def ask(process: subprocess.Popen[str], preset: str) -> float:
    """Seconds of one prefill there."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    process.stdin.write(f"{preset}\n")
    process.stdin.flush()
    return float(json.loads(process.stdout.readline()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--layers", type=int, default=6)
    options = parser.parse_args()
    old, new = serve(options.old, options.layers), serve(options.new, options.layers)
    for preset in PRESETS:
        ratios = []
        for turn in range(options.turns + 1):
            first, second = (old, new) if turn % 2 else (new, old)
            taken = {id(one): ask(one, preset) for one in (first, second)}
            if turn:
                ratios.append(taken[id(new)] / taken[id(old)])
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{preset}: new over old {middle:.3f} [{low:.3f}, {high:.3f}], {len(ratios)} turns")
    for process in (old, new):
        process.kill()


if __name__ == "__main__":
    main()
