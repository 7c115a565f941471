"""Everything that needs a GPU, in one command of at most six minutes: `python -m benchmarks.gpu`.

The tests marked gpu, then `tokenlens bench` in the shapes of LLaVA-1.5-7B and Qwen2-VL-7B
(bfloat16, SDPA, and FlashAttention where it is installed), and what the probe costs. Written are
JSON files and `gpu.md`; what there was no time for is named there.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.probe_cost import arms_of, slowdown
from tokenlens.benching.bench import run_bench
from tokenlens.benching.records import Bench, markdown
from tokenlens.benching.request import Cell, Request
from tokenlens.benching.shapes import Scaled
from tokenlens.storage.files import write_text

SHAPES = ("llava-1.5-7b", "qwen2-vl-7b")
LIMIT_S, TESTS_S, CELL_S = 360, 120, 25
"""Seconds of the whole, of the tests at most, and to leave for a comparison that begins."""


class OutOfTimeError(Exception):
    """There is no time to begin another comparison."""


def requests() -> Iterator[Request]:
    """The benches, the most wanted first."""
    kernels = ["sdpa", *(["flash_attention_2"] if find_spec("flash_attn") else [])]
    for attention in kernels:
        for like in SHAPES:
            yield Request(
                model=None, like=like, layers=None, width=None, methods=("swiftvlm", "fastv"),
                budgets=("33%",), batches=(1, 8), tokens=(576, 2304), text=64, dtype="bfloat16",
                device="cuda", rounds=5, decode=8, attention=attention,
            )  # fmt: skip


def tested() -> str:
    """How the tests marked gpu ended, in their own last line."""
    asked = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/pruning/test_gpu.py"]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter and our own tests
            asked, capture_output=True, text=True, timeout=TESTS_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not finished within {TESTS_S} s"
    return (done.stdout.strip().splitlines() or ["no output"])[-1]


def probed(like: str, batch: int) -> str:
    """Prefill under the probe beside the plain one, median and peak memory."""
    device, shape = torch.device("cuda"), Scaled.of(like)
    model = shape.build(576, device, torch.bfloat16)
    inputs = shape.inputs(model, batch, 576, 64)
    arms = arms_of(model, inputs)
    ratio, _ = slowdown(arms, 7)
    plain, probe = (arm.peak() or 0 for arm in arms.values())
    return f"{like}, batch {batch}: prefill {ratio:.3f}, peak {probe / max(1, plain):.3f}"


def measured(request: Request, out: Path, until: float) -> str:
    """The table of a bench, and whether it is whole."""

    def begin(cell: Cell) -> None:
        if time.monotonic() + CELL_S > until:
            raise OutOfTimeError
        print(f"{request.like}, {request.attention}: {cell}", flush=True)

    path = out / f"{request.like}-{request.attention}.json"
    title = f"## {request.like}, {request.dtype}, {request.attention}\n\n"
    try:
        return title + markdown(run_bench(request, path, begin)) + "\n"
    except OutOfTimeError:
        table = markdown(Bench.read(path)) if path.exists() else "Nothing measured"
        return f"{title}{table}\n\nThere was no time for the rest.\n"


def main() -> int:
    """Run all of it; 1 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    out: Path = parser.parse_args().out
    if not torch.cuda.is_available():
        print("no GPU here: nothing was measured; run it on a machine with CUDA", file=sys.stderr)
        return 1
    until = time.monotonic() + LIMIT_S
    parts = [f"# {torch.cuda.get_device_name()}, torch {torch.__version__}\n"]
    parts.append(f"Tests marked gpu: {tested()}\n")
    lines = [probed(like, batch) for like in SHAPES for batch in (1, 8)]
    parts.append("\n".join(["Under the probe, beside plain, 576 tokens:\n", *lines]) + "\n")
    for request in requests():
        parts.append(measured(request, out, until))
        write_text(out / "gpu.md", "\n".join(parts))
        torch.cuda.empty_cache()
    print(f"wrote {out / 'gpu.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
