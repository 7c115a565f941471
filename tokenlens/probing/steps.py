"""Decoding steps of one layer, whose rows are computed together by the keys of the last of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tokenlens.probing.attention_call import MOST_WEIGHTS
from tokenlens.probing.rows import as_bias, attention_weights, row_bias, scaling_of


class Step(NamedTuple):
    """What is kept of a step's attention call.

    Attributes:
        query: [batch, heads, 1, size], after rotary.
        mask: as transformers hands it over (see `row_bias`).
        options: the remaining keyword arguments.
        keys: how many there were.
        gone: how many a sliding window had dropped before.
    """

    query: Tensor
    mask: Any
    options: dict[str, Any]
    keys: int
    gone: int


@dataclass
class SeenKeys:
    """Which keys steps see; worked out once for all layers that share their masks."""

    _steps: Sequence[Step] = ()
    _keys: int = 0
    _seen: Tensor | None = None

    def of(self, steps: Sequence[Step], key: Tensor) -> Tensor:
        """Bool, or floats that are added: [batch or 1, 1 or heads, steps, keys]."""
        keys = key.shape[2]
        if self._seen is None or keys != self._keys or not self._same(steps):
            self._steps, self._keys, self._seen = tuple(steps), keys, _seen(steps, key)
        return self._seen

    def _same(self, steps: Sequence[Step]) -> bool:
        return len(steps) == len(self._steps) and all(
            one.mask is other.mask
            and (one.keys, one.gone) == (other.keys, other.gone)
            and one.options.get("sliding_window") == other.options.get("sliding_window")
            for one, other in zip(steps, self._steps, strict=True)
        )


@torch.no_grad()
def step_rows(
    steps: Sequence[Step],
    key: Tensor,
    seen: Tensor,
    positions: Sequence[Tensor],
    *,
    per_head: bool,
    scales: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """The rows of steps of one layer.

    Args:
        steps: in order, with the same `gone` keys.
        key: [batch, key_value_heads, keys, size], of the last step: those of all before it too.
        seen: what `SeenKeys.of` gives.
        positions: per sample int64 [n_visual], of the visual tokens in the sequence.
        per_head: keep the heads apart.
        scales: per sample float32 [heads, n_visual], factors of the rows; None for none.

    Returns:
        Per sample float32 [heads or 1, steps, n_visual].
    """
    query = torch.cat([step.query for step in steps], dim=2)
    batch, heads, count, _ = query.shape
    options, gone = steps[0].options, steps[0].gone
    found: list[Tensor] = []
    block = max(1, MOST_WEIGHTS // (heads * count * key.shape[2]))
    for start in range(0, batch, block):
        part = slice(start, start + block)
        weights = attention_weights(
            query[part].float(),
            key[part].float(),
            seen[part] if len(seen) > 1 else seen,
            scaling=scaling_of(query, options),
            softcap=options.get("softcap"),
        )
        for sample, row in enumerate(weights, start):
            places = positions[sample] - gone
            visual = row[..., places.clamp(min=0)]
            visual = visual * (places >= 0) if gone else visual
            visual = visual if scales is None else visual * scales[sample][:, None]
            found.append(visual if per_head else visual.mean(dim=0, keepdim=True))
    return found


def _seen(steps: Sequence[Step], key: Tensor) -> Tensor:
    keys = key.shape[2]
    if all(step.mask is None and step.options.get("sliding_window") is None for step in steps):
        own = torch.tensor([step.keys for step in steps], device=key.device)
        return (torch.arange(keys, device=key.device) < own[:, None])[None, None]
    masks = [_one(step, keys, key.device) for step in steps]
    if any(mask.is_floating_point() for mask in masks):
        masks = [mask if mask.is_floating_point() else as_bias(mask) for mask in masks]
    batch = max(map(len, masks))
    return torch.cat([mask.expand(batch, -1, -1, -1) for mask in masks], dim=2)


def _one(step: Step, keys: int, device: torch.device) -> Tensor:
    """One step's, [batch or 1, 1 or heads, 1, keys]; keys that came after it are none of its own.

    A static cache has room for keys that are still to come: its mask hides them.
    """
    own = min(step.keys, keys)
    if isinstance(step.mask, Tensor) and step.mask.ndim == 4:
        mask = step.mask[:, :, -1:, :own]
        hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        return torch.nn.functional.pad(mask, (0, keys - own), value=hidden)
    rows = range(1 if step.mask is None else len(step.query))
    bias = [
        row_bias(
            step.mask,
            sample=sample,
            row=0,
            place=own - 1,
            keys=own,
            causal=True,
            window=step.options.get("sliding_window"),
            device=device,
        )
        for sample in rows
    ]
    seen = torch.stack(bias)[:, :, None] == 0
    return torch.nn.functional.pad(seen, (0, keys - own), value=False)
