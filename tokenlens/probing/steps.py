"""Decoding steps of one layer, whose rows are computed together by the keys of the last of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from tokenlens.probing.attention_call import MOST_WEIGHTS
from tokenlens.probing.attention_weights import (
    as_bias,
    attention_logits,
    attention_weights,
    row_bias,
    scaling_of,
)


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
        """Bool, or floats that are added: [batch or 1, 1 or heads, steps, keys].

        Where no step has a mask, only the keys that came after the first step's own are told, the
        last ones: every step sees those before.
        """
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


@dataclass(frozen=True, eq=False)
class VisualColumns:
    """The columns of a sample's visual tokens in rows of attention.

    Attributes:
        positions: int64 [n_visual], in the sequence.
        run: where they stand, if without a gap, the first and the one after the last.
    """

    positions: Tensor
    run: tuple[int, int] | None

    @classmethod
    def at(cls, positions: Tensor) -> Self:
        """Of positions in ascending order."""
        if len(positions) == 0:
            return cls(positions, None)
        first, end = int(positions[0]), int(positions[-1]) + 1
        return cls(positions, (first, end) if end - first == len(positions) else None)

    def of(self, rows: Tensor, gone: int) -> Tensor:
        """Those of rows [..., keys], of which `gone` are missing at the front: [..., n_visual]."""
        if not gone and self.run is not None:
            return rows[..., slice(*self.run)]
        places = self.positions - gone
        visual = rows[..., places.clamp(min=0)]
        return visual * (places >= 0) if gone else visual


@torch.no_grad()
def step_rows(
    steps: Sequence[Step],
    key: Tensor,
    seen: Tensor,
    columns: "Sequence[VisualColumns]",
    *,
    per_head: bool,
    scales: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """The rows of steps of one layer.

    Args:
        steps: in order, with the same `gone` keys.
        key: [batch, key_value_heads, keys, size], of the last step: those of all before it too.
        seen: what `SeenKeys.of` gives.
        columns: per sample, of the visual tokens.
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
        weights = _weights(
            query[part].float(),
            key[part].float(),
            seen[part] if len(seen) > 1 else seen,
            scaling=scaling_of(query, options),
            softcap=options.get("softcap"),
        )
        for sample, row in enumerate(weights, start):
            visual = columns[sample].of(row, gone)
            visual = visual if scales is None else visual * scales[sample][:, None]
            found.append(visual.contiguous() if per_head else visual.mean(dim=0, keepdim=True))
    return found


def _weights(
    query: Tensor, key: Tensor, seen: Tensor, *, scaling: float, softcap: float | None
) -> Tensor:
    """As `attention_weights`, where `seen` may be of the last keys alone."""
    keys, told = key.shape[-2], seen.shape[-1]
    if told == keys:
        return attention_weights(query, key, seen, scaling=scaling, softcap=softcap)
    logits = attention_logits(query, key, scaling=scaling, softcap=softcap)
    logits[..., keys - told :].masked_fill_(~seen, -torch.inf)
    return logits.softmax(dim=-1)


def _seen(steps: Sequence[Step], key: Tensor) -> Tensor:
    keys = key.shape[2]
    if all(step.mask is None and step.options.get("sliding_window") is None for step in steps):
        own = torch.tensor([step.keys for step in steps], device=key.device)
        later = torch.arange(min(steps[0].keys, keys), keys, device=key.device)
        return (later < own[:, None])[None, None]
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
