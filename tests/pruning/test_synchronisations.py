"""What makes a GPU wait: reading values back, shapes that depend on values, uploads.

On a CPU nothing waits, so the calls are counted. A prefill may make a few of them, however many
stages and layers it has; where all samples have the same number of tokens, no stage may.
"""

from collections import Counter

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import tokenlens as tl
from tests.support.engine_support import RAGGED, batch, model64, schedule, stage
from tests.support.families import RAGGED as PICTURES
from tests.support.families import case
from tests.support.family_plans import plan_for

EQUAL = (((4, 5),), ((5, 4),))
READING = ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "cpu", "numpy")
SHAPED = ("nonzero", "masked_select", "unique", "bincount", "argwhere")
UPLOADS = ("tensor", "as_tensor", "from_numpy")


class Waits(TorchFunctionMode):
    """Counts the calls, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in READING + SHAPED or name in UPLOADS:
            self.calls[name] += 1
        elif name in ("__getitem__", "__setitem__") and _by_mask(args[1]):
            self.calls["boolean index"] += 1
        return func(*args, **(kwargs or {}))


def _by_mask(index) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor) and part.dtype == torch.bool for part in parts)


def waits(model, plan, inputs) -> Counter[str]:
    """Of a prefill, beside those of the unpruned model; what is kept for a shape is there."""
    with torch.no_grad():
        with Waits() as plain:
            model(**inputs)
        with tl.prune(model, plan):
            model(**inputs)
            with Waits() as pruned:
                model(**inputs)
    return pruned.calls - plain.calls


def stages_of(disposal: str, count: int, **more) -> list[dict]:
    all_stages = [
        stage(1, "after", 0.8, disposal, **more),
        stage(3, "before", 0.6, disposal, **more),
        stage(5, "before", 0.3),
    ]
    return all_stages[-count:]


KINDS = {
    "drop": {},
    "merge": {"merge": 0.3},
    "bypass": {"merge": 0.3},
    "freeze": {},
    "renumbered": {"positions": "renumber"},
}


@pytest.mark.parametrize("query", ["last", "text", "all", "uniform", "diverse"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_stage_waits_where_counts_are_equal(kind, query):
    model = model64()
    inputs = batch(model, EQUAL)
    disposal = "drop" if kind == "renumbered" else kind
    found = [
        waits(model, schedule(*stages_of(disposal, count, **KINDS[kind]), query=query), inputs)
        for count in (1, 3)
    ]
    assert found[0] == found[1], "two more stages wait no more"
    assert found[0].total() <= 6, found[0]


def test_the_controls_are_found():
    """Where counts differ, and with a scorer that draws on the host, stages do wait."""
    model = model64()
    plans = [schedule(*stages_of("bypass", count, merge=0.3)) for count in (1, 3)]
    ragged = [waits(model, plan, batch(model, RAGGED)) for plan in plans]
    assert ragged[1].total() > ragged[0].total()
    drawn = [schedule(*stages_of("drop", count), query="random", seed=0) for count in (1, 3)]
    random = [waits(model, plan, batch(model, EQUAL)) for plan in drawn]
    assert random[1]["cpu"] > random[0]["cpu"]


def test_features_added_to_the_first_layers_make_nothing_wait():
    found = case("Qwen3-VL", PICTURES)
    plan = plan_for(found.model, [stage(1, "after", 0.5)])
    assert not waits(found.model, plan, found.inputs)["boolean index"]
