"""The model's own attention masks, gathered for the tokens that are left.

A mask is what the model made for the full sequence: None (no padding: causal where the layer is),
bool [batch or 1, heads or 1, queries, keys] (True attends), the same in floats (added to the
logits), or [batch, keys] (FlashAttention's padding mask). It is gathered, never rebuilt, so that
prefix, image, sliding and padding patterns stay what they are.
"""

import torch
from torch import Tensor

from tokenlens.pruning.tokens import Slots


def narrow(mask: Tensor | None, slots: Slots, *, causal: bool, flat: bool) -> Tensor | None:
    """The mask of a layer that runs on `slots`; None stays None while no slot is a filler.

    `causal` says whether the layer is causal where its mask is None, `flat` whether its attention
    wants [batch, keys] masks.
    """
    if mask is None:
        if not slots.ragged:
            return None
        if flat:
            return slots.present
        return visible(None, slots.index, slots.index, slots.present, causal=causal)
    if mask.ndim == 2:
        return mask.gather(1, slots.index.to(mask.device)) & slots.present.to(mask.device)
    return visible(mask, slots.index, slots.index, slots.present, causal=causal)


def narrow_among(mask: Tensor | None, rows: Slots, keys: Slots, *, causal: bool) -> Tensor:
    """The mask of a layer whose queries are in the slots `rows` and whose keys in `keys`."""
    return visible(mask, rows.index, keys.index, keys.present, causal=causal)


def visible(
    mask: Tensor | None, rows: Tensor, keys: Tensor, present: Tensor, *, causal: bool
) -> Tensor:
    """Which keys each row sees, bool or additive floats [batch, heads or 1, rows, keys].

    Args:
        mask: the layer's own mask in full coordinates.
        rows: int64 [batch, rows], positions of the queries in the padded input.
        keys: int64 [batch, keys], positions of the keys.
        present: bool [batch, keys], False for keys that no row attends to.
        causal: whether the layer is causal where its mask does not say.
    """
    present = present[:, None, None, :]  # [batch, 1, 1, keys]
    if mask is None or mask.ndim == 2:
        if mask is not None:
            present = present & mask.to(keys.device).bool().gather(1, keys)[:, None, None, :]
        if causal:
            return present & (keys[:, None, None, :] <= rows[:, None, :, None])
        return present.expand(-1, 1, rows.shape[1], -1)  # [batch, 1, rows, keys]
    gathered = _gather(mask.to(keys.device), rows, keys)  # [batch, heads or 1, rows, keys]
    if gathered.dtype == torch.bool:
        return gathered & present
    return gathered.masked_fill(~present, torch.finfo(gathered.dtype).min)


def extend(
    mask: Tensor | None,
    index: Tensor,
    present: Tensor | None,
    *,
    later_from: int,
    keys: int,
    queries: int,
    flat: bool,
) -> Tensor | None:
    """The mask of tokens that come after the prompt, for a layer that stores few of its keys.

    Args:
        mask: the layer's own mask in full coordinates.
        index: int64 [batch, stored], where the prompt's stored keys belong.
        present: bool [batch, stored], None where every stored key is a real one.
        later_from: position of the first key stored after those.
        keys: tokens of the whole sequence, the new ones included.
        queries: new tokens.
        flat: whether the layer's attention wants [batch, keys] masks.
    """
    later = keys - later_from
    if mask is None:
        if present is None:
            return None
        seen = torch.nn.functional.pad(present, (0, later), value=True)  # [batch, stored + later]
        return seen if flat else seen[:, None, None, :].expand(-1, 1, queries, -1)
    index = index.to(mask.device)
    present = (
        torch.ones_like(index, dtype=torch.bool) if present is None else present.to(mask.device)
    )
    if mask.ndim == 2:
        return torch.cat([mask.gather(1, index) & present, mask[:, later_from:keys]], dim=1)
    batch, (heads, rows) = len(index), mask.shape[1:3]
    mask = mask.expand(batch, -1, -1, -1)  # [batch, heads or 1, queries, keys]
    # [batch, heads or 1, queries, stored]
    stored = mask.gather(3, index[:, None, None, :].expand(-1, heads, rows, -1))
    hidden = ~present[:, None, None, :]  # [batch, 1, 1, stored]
    blocked = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
    # [batch, heads or 1, queries, stored + later]
    return torch.cat([stored.masked_fill(hidden, blocked), mask[..., later_from:keys]], dim=3)


def _gather(mask: Tensor, rows: Tensor, keys: Tensor) -> Tensor:
    batch, heads = len(rows), mask.shape[1]
    mask = mask.expand(batch, -1, -1, -1)  # [batch, heads or 1, all queries, all keys]
    each = torch.arange(batch, device=rows.device)[:, None, None, None]
    head = torch.arange(heads, device=rows.device)[None, :, None, None]
    # the four indices broadcast to [batch, heads or 1, rows, keys]
    return mask[each, head, rows[:, None, :, None], keys[:, None, None, :]]
