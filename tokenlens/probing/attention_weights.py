"""The importance of visual tokens: rows of attention, of some queries over all keys.

The one formula that the probe, the engine's scoring and the vision tower's reader share; the whole
map is never computed.
"""

from typing import Any

import torch
from torch import Tensor

from tokenlens.errors import ProbeError


def attention_weights(
    query: Tensor,
    key: Tensor,
    seen: Tensor | None,
    *,
    scaling: float,
    softcap: float | None = None,
) -> Tensor:
    """Softmax of some rows over the keys they see; a row that sees none is zero.

    Args:
        query: [..., heads, rows, size], after rotary, in the dtype that is computed in.
        key: [..., key_value_heads, keys, size], likewise; grouped-query heads are not repeated.
        seen: [..., heads or 1, rows, keys]: bool, or floats added to the logits, the lowest of
            which (and -inf) hide a key; None where every row sees every key.
        scaling: factor on the dot products.
        softcap: where given, logits are squashed to ±softcap before the mask, as in Gemma 2.

    Returns:
        [..., heads, rows, keys]; a row that sees a key sums to 1.

    >>> query, key = torch.zeros(2, 1, 4), torch.zeros(1, 5, 4)  # 2 heads share 1 head of keys
    >>> seen = torch.tensor([[[True, True, True, True, False]]])
    >>> row = attention_weights(query, key, seen, scaling=0.5)
    >>> row.shape, row[0].tolist()
    (torch.Size([2, 1, 5]), [[0.25, 0.25, 0.25, 0.25, 0.0]])
    """
    logits = attention_logits(query, key, scaling=scaling, softcap=softcap)
    if seen is None:
        return logits.softmax(dim=-1)
    blocked = torch.finfo(seen.dtype if seen.is_floating_point() else logits.dtype).min
    if seen.is_floating_point():
        logits, seen = logits + seen, seen > blocked / 2
    weights: Tensor = logits.masked_fill(~seen, blocked).softmax(dim=-1) * seen
    return weights


def attention_logits(
    query: Tensor, key: Tensor, *, scaling: float, softcap: float | None = None
) -> Tensor:
    """What `attention_weights` takes the softmax of, before anything is hidden; see there."""
    *outer, heads, rows, size = query.shape
    kv_heads, keys = key.shape[-3:-1]
    grouped = query.reshape(*outer, kv_heads, heads // kv_heads * rows, size)
    products = grouped @ key.transpose(-1, -2)  # [..., kv heads, groups·rows, keys]
    logits = products.view(*outer, heads, rows, keys).mul_(scaling)
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap


_UNREAD = ("s_aux", "sinks", "position_bias", "indices", "block_indices")
"""Options of attention functions that the softmax depends on, and the formula here does not."""


def unread_option(options: dict[str, Any]) -> str | None:
    """The option by which an attention call's softmax is another one; None where there is none."""
    return next((name for name in _UNREAD if options.get(name) is not None), None)


def scaling_of(query: Tensor, options: dict[str, Any]) -> float:
    """The factor on dot products of an attention call: its own, or 1/√size where it names none."""
    scaling = options.get("scaling")
    return query.shape[-1] ** -0.5 if scaling is None else float(scaling)


def row_bias(
    mask: Tensor | None,
    *,
    sample: int,
    row: int,
    place: int | None = None,
    keys: int,
    causal: bool,
    window: int | None,
    device: torch.device,
) -> Tensor:
    """What an attention function's mask adds to one row: 0 for a key it may see, -inf otherwise.

    Args:
        mask: As transformers hands it to an attention function: bool or additive
            [batch, 1 or heads, rows, keys] (SDPA, eager), bool or int [batch, keys] of real tokens
            (FlashAttention), or None where being causal says it all.
        sample: Index of the sample in the batch.
        row: Index of the row in the mask.
        place: Index of its own token among the keys; that of the row where None.
        keys: Number of keys.
        causal: Whether a row sees no key after itself, where the mask does not say it.
        window: Number of keys up to itself that a row sees, where the mask does not say it.
        device: Where the bias is wanted.

    Returns:
        float32 [1 or heads, keys].

    >>> row_bias(None, sample=0, row=2, keys=4, causal=True, window=2, device=torch.device("cpu"))
    tensor([[-inf, 0., 0., -inf]])
    """
    if mask is not None and not isinstance(mask, Tensor):
        raise ProbeError(
            f"attention masks of type {type(mask).__name__} cannot be read; load the model with "
            "attn_implementation='sdpa'"
        )
    if mask is not None and mask.ndim == 4:
        given = mask[sample, :, row, :keys]
        return as_bias(given) if given.dtype == torch.bool else given.float()
    own = row if place is None else place
    places = torch.arange(keys, device=device)
    seen = torch.ones(keys, dtype=torch.bool, device=device)
    if causal:
        seen &= places <= own
    if window is not None:
        seen &= places > own - window
    if mask is not None:
        real = mask[sample, :keys].bool()
        seen[: len(real)] &= real
    return as_bias(seen[None])


def as_bias(seen: Tensor) -> Tensor:
    """A mask of bools as float32 that are added to logits: 0 for a key that is seen, else -inf."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, -torch.inf)
