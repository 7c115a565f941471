"""A method at its budgets, the unpruned model and the engine-free layers, timed in turn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, PreTrainedModel

from tokenlens.benching.engine_free import EngineFree
from tokenlens.benching.request import Cell
from tokenlens.benching.timing import Plain, Tower, Turn, take_turns
from tokenlens.methods import find_method
from tokenlens.models.structure import visual_mask
from tokenlens.pruning.cost.schedule_forecast import forecast
from tokenlens.pruning.engine import prune
from tokenlens.pruning.vision_tower import reads_tower
from tokenlens.schedule import Schedule
from tokenlens.schedule.budget import parse_budget

UNPRUNED, ENGINE_FREE, PRUNED = _KINDS = "unpruned", "engine-free", "pruned"


@dataclass(frozen=True)
class Setting:
    """A model with one batch of inputs.

    Attributes:
        depth: decoder layers of the model that it stands for, at whose relative depth methods
            prune; None for its own.
    """

    model: PreTrainedModel
    inputs: BatchFeature
    depth: int | None = None

    @cached_property
    def visual(self) -> int:
        """Visual tokens of the first prompt; all prompts of a batch are alike."""
        return int(visual_mask(self.model, self.inputs["input_ids"])[0].sum())

    @property
    def text(self) -> int:
        """Its other tokens."""
        return int(self.inputs["input_ids"].shape[1]) - self.visual

    @cached_property
    def tower(self) -> Tower:
        """What the vision tower makes of the pictures, timed once after a run that warms up."""
        tower = Tower()
        with torch.inference_mode(), tower.watching(self.model):
            self.model(**self.inputs, use_cache=False, logits_to_keep=1)
            tower.run()
        return tower


def schedule_for(
    model: PreTrainedModel, cell: Cell, visual: int, text: int, depth: int | None
) -> Schedule:
    """The preset of a cell, in a model that may stand for one of `depth` layers."""
    schedule, _ = find_method(cell.method).build_or_earlier(
        model, budget=parse_budget(cell.budget), n_visual=visual, n_text=text, depth=depth
    )
    return schedule


class _Pruned:
    """The pruned arm of a cell, and what its trace tells."""

    def __init__(self, setting: Setting, cell: Cell, decode: int) -> None:
        model = setting.model
        schedule = schedule_for(model, cell, setting.visual, setting.text, setting.depth)
        made = None if reads_tower(schedule) else setting.tower.made
        self.arm = Plain(model, setting.inputs, decode, partial(prune, model, schedule), made)
        with torch.inference_mode(), self.arm.opened() as trace, Tower(made).watching(model):
            self.arm.forward()
        self.cost = trace.cost
        updated, readable = trace.tokens_per_layer[0], trace.readable_per_layer[0]
        self.widths = None
        if torch.equal(updated, readable):
            self.widths = [count + setting.text for count in updated.tolist()]


def compare(
    setting: Setting, cells: Sequence[Cell], rounds: int, decode: int
) -> list[dict[str, Any]]:
    """Time the arms of cells of the same inputs in turn.

    Returns:
        JSON for each cell: MACs and bytes of the cache of the whole batch, seconds of the tower and
        of every turn by arm and part, peak bytes by arm, and `ratios`, with median, lower and upper
        quartile.
    """
    model, inputs = setting.model, setting.inputs
    pruned = [_Pruned(setting, cell, decode) for cell in cells]
    arms: dict[tuple[str, int], Plain | EngineFree] = {
        (UNPRUNED, 0): Plain(model, inputs, decode, made=setting.tower.made)
    }
    for place, one in enumerate(pruned):
        arms[PRUNED, place] = one.arm
        if one.widths is not None:
            arms[ENGINE_FREE, place] = EngineFree(model, inputs, one.widths, setting.tower.made)
    turns = take_turns({name: arm.turn for name, arm in arms.items()}, rounds)
    peaks = {name: arm.peak() for name, arm in arms.items()}
    rows = []
    for place, one in enumerate(pruned):
        own = {kind: (kind, 0 if kind == UNPRUNED else place) for kind in _KINDS}
        seconds = {kind: turns[key] for kind, key in own.items() if key in turns}
        both = (one.cost.unpruned, one.cost)
        macs = [float(cost.total_macs.sum()) for cost in both]
        cache = [float(cost.kv_bytes.sum()) for cost in both]
        rows.append(
            {
                **_numbers(macs, cache),
                "visual": setting.visual,
                "text": setting.text,
                "tower_s": setting.tower.seconds,
                "seconds": {kind: _by_part(found) for kind, found in seconds.items()},
                "peak_bytes": {kind: peaks[key] for kind, key in own.items() if key in peaks},
                "ratios": ratios(seconds, macs[1] / macs[0], setting.tower.seconds),
            }
        )
    return rows


def estimate(model: PreTrainedModel, cell: Cell, text: int, depth: int | None) -> dict[str, Any]:
    """What token counts alone tell of a cell, of a model that was not given memory."""
    tokens = cell.tokens or 0
    schedule = schedule_for(model, cell, tokens, text, depth)
    found = forecast(schedule, model, tokens, text)
    both = (found.unpruned, found)
    return {
        **_numbers(
            [cell.batch * float(one.macs.total) for one in both],
            [cell.batch * float(one.kv_bytes) for one in both],
        ),
        "visual": tokens,
        "text": text,
        "weight_bytes": sum(one.numel() * one.element_size() for one in model.parameters()),
    }


def ratios(
    turns: Mapping[str, Sequence[Turn]], macs: float, tower_s: float = 0.0
) -> dict[str, dict[str, float]]:
    """Times beside the unpruned model's, and what of the saving arrives.

    Args:
        turns: of each arm, the turns of the same rounds.
        macs: MACs of the pruned prefill beside the unpruned one's.
        tower_s: seconds of the vision tower, where an arm does not run it in every turn.

    Returns:
        By name, `median` (the ratio of the medians) and the quartiles `low` and `high` of the
        ratios within a round. `whole` is of tower and prefill together. `efficiency` is (unpruned
        time ÷ pruned time) ÷ (unpruned MACs ÷ pruned MACs): 1 where time falls as MACs do.

    >>> fast, slow = [{"prefill": 1.0}] * 3, [{"prefill": 2.0}] * 3
    >>> ratios({"unpruned": slow, "pruned": fast}, 0.4)["efficiency"]["median"]
    0.8
    """
    found = {}
    timed = {
        arm: [{"whole": turn["prefill"] + turn.get("tower", tower_s), **turn} for turn in one]
        for arm, one in turns.items()
    }
    base = timed[UNPRUNED]
    for arm, word in ((PRUNED, ""), (ENGINE_FREE, "engine-free ")):
        for part in base[0] if arm in timed else ():
            if part not in timed[arm][0]:
                continue
            before, after = (np.array([turn[part] for turn in one]) for one in (base, timed[arm]))
            if before.min() > 0 and after.min() > 0:
                found[f"{word}{part}"] = _summary(after / before, _medians(after, before))
            if part == "prefill":
                share = _summary(macs * before / after, macs * _medians(before, after))
                found[f"{word}efficiency"] = share
    return found


def _medians(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return float(np.median(one) / np.median(other))


def _summary(values: np.ndarray[Any, Any], middle: float) -> dict[str, float]:
    low, high = np.quantile(values, [0.25, 0.75])
    return {"median": middle, "low": float(low), "high": float(high)}


def _numbers(macs: Sequence[float], cache: Sequence[float]) -> dict[str, Any]:
    return {
        "macs": dict(zip((UNPRUNED, PRUNED), macs, strict=True)),
        "kv_bytes": dict(zip((UNPRUNED, PRUNED), cache, strict=True)),
    }


def _by_part(turns: Sequence[Turn]) -> dict[str, list[float]]:
    return {part: [turn[part] for turn in turns] for part in turns[0]}
