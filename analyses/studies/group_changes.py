"""Changes of the tokens that a bypass sets aside, and of the merged tokens that stand for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenlens.errors import ScheduleError
from tokenlens.models.structure import decoder_layers
from tokenlens.pruning.disposal import Groups
from tokenlens.pruning.engine import prune
from tokenlens.pruning.grouping import group
from tokenlens.pruning.tokens import Slots, Tokens

if TYPE_CHECKING:
    from tokenlens.models.batch import Batch
    from tokenlens.models.vlm import VLM
    from tokenlens.schedule import Schedule


@dataclass(frozen=True)
class GroupChanges:
    """The tokens that the first stage set aside, of one sample, between it and the second stage.

    Attributes:
        positions: int64 [tokens], in the sample's padded input, ascending.
        visual: int64 [tokens], their numbers among the sample's visual tokens, from 0.
        before: float64 [tokens, hidden], states entering the first layer on fewer tokens.
        after: float64 [tokens, hidden], of the unpruned model where the second stage begins.
        offset: float64 [groups, hidden], what each merged token changed by between the two.
        member_of: int64 [tokens], the group of each.
        seeds: int64 [groups], positions of the groups' seeds.
    """

    positions: NDArray[np.int64]
    visual: NDArray[np.int64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    offset: NDArray[np.float64]
    member_of: NDArray[np.int64]
    seeds: NDArray[np.int64]


def check_schedule(schedule: Schedule) -> None:
    """Raise `ScheduleError` where the first stage is no bypass with merged tokens."""
    first = schedule.stages[0]
    if first.disposal != "bypass" or not first.merge:
        raise ScheduleError(
            f"stages[0]: got disposal {first.disposal!r} with merge {first.merge}, so no token is "
            "aligned by a merged one; expected 'bypass' with a merge above 0"
        )


@torch.inference_mode()
def group_changes(vlm: VLM, batch: Batch, schedule: Schedule) -> list[GroupChanges]:
    """The changes of every sample of a batch, which is run unpruned and then pruned."""
    first, second = (stage.first_layer for stage in schedule.stages[:2])
    with _entering(vlm, (first, second)) as whole:
        vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
    with _entering(vlm, (second,)) as pruned, prune(vlm, schedule) as trace:
        vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
    stage, found = trace.stages[0], []
    for index, attended in enumerate(batch.inputs["attention_mask"].bool().cpu()):
        candidates, seeds = stage.candidates[index], stage.merged[index]
        rest = candidates[~torch.isin(candidates, stage.selected[index])]
        before, after = (whole[layer][index, rest] for layer in (first, second))
        groups = _grouped(before, rest, len(seeds))
        going = attended.clone()
        going[rest], going[seeds] = False, True
        place_from_end = going.sum() - going.cumsum(0)[seeds] + 1
        offset = pruned[second][index, -place_from_end] - groups.merged.hidden[0]
        found.append(
            GroupChanges(
                rest.numpy(),
                torch.searchsorted(candidates, rest).numpy(),
                before.double().numpy(),
                after.double().numpy(),
                offset.double().numpy(),
                groups.member_of[0].numpy(),
                seeds.numpy(),
            )
        )
    return found


def _grouped(states: Tensor, positions: Tensor, merging: int) -> Groups:
    """The engine's own grouping of one sample's tokens [tokens, hidden]."""
    count = len(positions)
    there = torch.ones(1, count, dtype=torch.bool)
    slots = Slots(positions[None], there, there, ~there, None, (count,), (count,))
    return group(Tokens(states[None], slots), (merging,))


@contextmanager
def _entering(vlm: VLM, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Context that keeps the hidden states entering `layers` (counted from 1), on the CPU.

    It must be entered before `tokenlens.prune`: then its hooks run first and see all tokens.
    """
    found: dict[int, Tensor] = {}

    def keep(number: int) -> Any:
        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found[number] = (args[0] if args else kwargs["hidden_states"]).cpu()

        return hook

    modules = decoder_layers(vlm.model)
    handles = [
        modules[number - 1].register_forward_pre_hook(keep(number), with_kwargs=True)
        for number in layers
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
