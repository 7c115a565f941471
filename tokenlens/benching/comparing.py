"""One cell of a bench: a method at a budget, the unpruned model and the engine-free layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from transformers import BatchFeature, PreTrainedModel

from tokenlens.benching.engine_free import EngineFree
from tokenlens.benching.request import Cell
from tokenlens.benching.timing import Plain, Turn, take_turns
from tokenlens.models.structure import visual_mask
from tokenlens.pruning.cost.schedule_forecast import forecast
from tokenlens.pruning.engine import prune
from tokenlens.schedule import Schedule

UNPRUNED, ENGINE_FREE, PRUNED = "unpruned", "engine-free", "pruned"


@dataclass(frozen=True)
class Setting:
    """A model with one batch of inputs."""

    model: PreTrainedModel
    inputs: BatchFeature

    @property
    def visual(self) -> int:
        """Visual tokens of the first prompt; all prompts of a batch are alike."""
        return int(visual_mask(self.model, self.inputs["input_ids"])[0].sum())

    @property
    def text(self) -> int:
        """Its other tokens."""
        return int(self.inputs["input_ids"].shape[1]) - self.visual


def schedule_for(model: PreTrainedModel, cell: Cell, visual: int, text: int) -> Schedule:
    """The preset of a cell."""
    return Schedule.preset(cell.method, model, budget=cell.budget, n_visual=visual, n_text=text)


def compare(setting: Setting, cell: Cell, rounds: int, decode: int) -> dict[str, Any]:
    """Time the arms of a cell in turn.

    Returns:
        JSON: MACs and bytes of the cache of the whole batch, seconds of every turn by arm and part,
        peak bytes by arm, and `ratios`, with median, lower and upper quartile.
    """
    model, inputs = setting.model, setting.inputs
    schedule = schedule_for(model, cell, setting.visual, setting.text)
    arms: dict[str, Plain | EngineFree] = {
        UNPRUNED: Plain(model, inputs, decode),
        PRUNED: Plain(model, inputs, decode, partial(prune, model, schedule)),
    }
    with torch.inference_mode(), prune(model, schedule) as trace:
        model(**inputs, use_cache=True, logits_to_keep=1)
    updated, readable = trace.tokens_per_layer[0], trace.readable_per_layer[0]
    if torch.equal(updated, readable):
        with torch.inference_mode():
            embed: Any = cast(Any, model).get_input_embeddings()
            embedded = embed(inputs["input_ids"])
        widths = [count + setting.text for count in updated.tolist()]
        arms[ENGINE_FREE] = EngineFree(model, embedded, widths)
    turns = take_turns({name: arm.turn for name, arm in arms.items()}, rounds)
    peaks = {name: arm.peak() for name, arm in arms.items()}
    cost = trace.cost
    macs = [float(one.total_macs.sum()) for one in (cost.unpruned, cost)]
    cache = [float(one.kv_bytes.sum()) for one in (cost.unpruned, cost)]
    return {
        **_numbers(macs, cache),
        "visual": setting.visual,
        "text": setting.text,
        "seconds": {name: _by_part(found) for name, found in turns.items()},
        "peak_bytes": peaks,
        "ratios": ratios(turns, macs[1] / macs[0]),
    }


def estimate(model: PreTrainedModel, cell: Cell, text: int) -> dict[str, Any]:
    """What token counts alone tell of a cell, of a model that was not given memory."""
    tokens = cell.tokens or 0
    schedule = schedule_for(model, cell, tokens, text)
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


def ratios(turns: Mapping[str, Sequence[Turn]], macs: float) -> dict[str, dict[str, float]]:
    """Times beside the unpruned model's, and what of the saving arrives.

    Args:
        turns: of each arm, the turns of the same rounds.
        macs: MACs of the pruned prefill beside the unpruned one's.

    Returns:
        By name, `median` (the ratio of the medians) and the quartiles `low` and `high` of the
        ratios within a round. `efficiency` is (unpruned time ÷ pruned time) ÷ (unpruned MACs ÷
        pruned MACs): 1 where time falls as MACs do.

    >>> fast, slow = [{"prefill": 1.0}] * 3, [{"prefill": 2.0}] * 3
    >>> ratios({"unpruned": slow, "pruned": fast}, 0.4)["efficiency"]["median"]
    0.8
    """
    base, found = turns[UNPRUNED], {}
    for arm, word in ((PRUNED, ""), (ENGINE_FREE, "engine-free ")):
        for part in turns[arm][0] if arm in turns else ():
            before, after = (np.array([turn[part] for turn in one]) for one in (base, turns[arm]))
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
