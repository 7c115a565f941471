"""What the probe costs: prefills under it beside plain ones, in turns.

    python -m benchmarks.probe_cost --model tiny-qwen2-vl --batch 1,8

The vision tower runs once, before. Printed are the ratios of the medians, probed over plain; the
peak memory of both is what `tokenlens.analyses.studies.probe_memory` measures.
"""

import argparse
import statistics
from functools import partial

from PIL import Image
from transformers import BatchFeature, PreTrainedModel

import tokenlens as tl
from tokenlens.benching.comparing import Setting
from tokenlens.benching.timing import Plain, take_turns


def arms_of(model: PreTrainedModel, inputs: BatchFeature, made: object = None) -> dict[str, Plain]:
    """A plain prefill and a probed one; see `Plain` for `made`."""
    probe = partial(tl.probe, model)
    return {
        "plain": Plain(model, inputs, 0, made=made),
        "probed": Plain(model, inputs, 0, probe, made),
    }


def slowdown(arms: dict[str, Plain], rounds: int) -> tuple[float, float]:
    """Median of the probed prefill over that of the plain one, and seconds of the plain one."""
    turns = take_turns({name: arm.turn for name, arm in arms.items()}, rounds)
    plain, probed = (statistics.median(turn["prefill"] for turn in one) for one in turns.values())
    return probed / plain, plain


def main() -> None:
    """Print a line for every batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny-qwen2-vl")
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--rounds", type=int, default=60)
    given = parser.parse_args()
    vlm = tl.load(given.model)
    picture = Image.effect_noise((336, 336), 64).convert("RGB")
    for size in map(int, given.batch.split(",")):
        inputs = vlm.prepare([picture] * size, ["what is it ?"] * size)
        made = Setting(vlm.model, inputs).tower.made
        ratio, plain = slowdown(arms_of(vlm.model, inputs, made), given.rounds)
        print(f"{given.model}, batch {size}: {ratio:.3f} of {1000 * plain:.1f} ms", flush=True)


if __name__ == "__main__":
    main()
