"""What a frozen token costs: measured share of a live token's prefill time over the counted share.

    python benchmarks/frozen_cost.py

A random-weight Qwen2-VL decoder with 576 visual tokens. Three arms take turns in one run: unpruned,
a `drop` stage, and a `freeze` stage that keeps as many tokens live. The extra time of `freeze` over
`drop`, in units of what the unpruned model spends more than `drop`, is the measured share of a
frozen token; the counted share is the same of MACs. Printed are medians and quartiles over turns of
the ratio of the two.
"""

import argparse
import statistics

import torch
from transformers import BatchFeature, PreTrainedModel

import tokenlens as tl
from benchmarks.probing_generation import WIDTHS, clock, inputs_of, model_of
from tokenlens.schedule import ModelRef, Schedule, Scorer, Stage

ARMS = ("unpruned", "drop", "freeze")


def schedule_of(model: PreTrainedModel, disposal: str, layers: list[int], keep: float) -> Schedule:
    """A schedule with stages before these layers, of evenly spaced tokens."""
    stages = [
        Stage(score_layer=layer, when="before", keep=keep, disposal=disposal) for layer in layers
    ]
    return Schedule(
        schema=1,
        method="custom",
        model=ModelRef.of(model),
        scorer=Scorer(query="uniform"),
        stages=stages,
    )


def seconds(model: PreTrainedModel, inputs: BatchFeature, schedule: Schedule | None) -> float:
    """Time of one prefill; see `clock`."""
    with torch.inference_mode():
        if schedule is None:
            began = clock(model)
            model(**inputs, logits_to_keep=1)
            return clock(model) - began
        with tl.prune(model, schedule):
            began = clock(model)
            model(**inputs, logits_to_keep=1)
            return clock(model) - began


def macs(model: PreTrainedModel, inputs: BatchFeature, schedule: Schedule) -> tuple[float, float]:
    """MACs of the decoder's prefill under the schedule, and of the unpruned prefill."""
    with torch.inference_mode(), tl.prune(model, schedule) as trace:
        model(**inputs, logits_to_keep=1)
    cost = trace.cost
    return float(cost.total_macs.sum()), float(cost.unpruned.total_macs.sum())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--before", default="2", help="layers with a stage, commas between")
    parser.add_argument("--keep", type=float, default=0.111)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    size = {**WIDTHS["4 layers of Qwen2-VL-2B's width"], "layers": options.layers}
    model = model_of(**size).to(getattr(torch, options.dtype))
    inputs = inputs_of(model, options.batch, words=32)
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    layers = [int(layer) for layer in options.before.split(",")]
    schedules: dict[str, Schedule | None] = {"unpruned": None}
    for disposal in ("drop", "freeze"):
        schedules[disposal] = schedule_of(model, disposal, layers, options.keep)
    counted = {arm: macs(model, inputs, plan) for arm, plan in schedules.items() if plan}
    whole = counted["drop"][1]
    share = (counted["freeze"][0] - counted["drop"][0]) / (whole - counted["drop"][0])
    ratios, times = [], {arm: [] for arm in ARMS}
    for turn in range(options.turns + 1):
        for arm in ARMS if turn % 2 else reversed(ARMS):
            times[arm].append(seconds(model, inputs, schedules[arm]))
        if turn:
            last = {arm: taken[-1] for arm, taken in times.items()}
            measured = (last["freeze"] - last["drop"]) / (last["unpruned"] - last["drop"])
            ratios.append(measured / share)
    lows = {arm: statistics.quantiles(taken[1:], n=4)[0] for arm, taken in times.items()}
    for arm, taken in times.items():
        print(f"{arm}: {1e3 * statistics.median(taken[1:]):.1f} ms, quartile {1e3 * lows[arm]:.1f}")
    quiet = (lows["freeze"] - lows["drop"]) / (lows["unpruned"] - lows["drop"]) / share
    print(f"measured over counted, of the arms' lower quartiles: {quiet:.2f}")
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"counted share of a frozen token: {share:.4f}")
    print(f"measured over counted: {middle:.2f} [{low:.2f}, {high:.2f}], {options.turns} turns")


if __name__ == "__main__":
    main()
