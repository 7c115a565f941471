"""One row of an attention map, computed from one query and all keys, never from the whole map."""

import torch
from torch import Tensor

from tokenlens.errors import ProbeError


def attention_row(
    query: Tensor,
    key: Tensor,
    *,
    scaling: float,
    bias: Tensor,
    softcap: float | None = None,
) -> Tensor:
    """Softmax of one query token over all keys, in float32 whatever the model's dtype.

    Args:
        query: [heads, head_dim], one token, after rotary.
        key: [key_value_heads, keys, head_dim]; grouped-query heads are not repeated.
        scaling: Factor on the dot products.
        bias: float32 [1 or heads, keys], added to the scaled products; -inf hides a key.
        softcap: Where given, products are squashed to ±softcap before the bias, as in Gemma 2.

    Returns:
        float32 [heads, keys]; each row sums to 1.

    >>> row = attention_row(torch.zeros(2, 4), torch.zeros(1, 5, 4), scaling=0.5,
    ...                     bias=torch.tensor([[0.0, 0.0, 0.0, 0.0, -torch.inf]]))
    >>> row.shape, row[0].tolist()
    (torch.Size([2, 5]), [0.25, 0.25, 0.25, 0.25, 0.0])
    """
    heads, head_dim = query.shape
    groups = query.float().view(key.shape[0], -1, head_dim)
    products = (groups @ key.float().transpose(1, 2)).view(heads, -1) * scaling
    if softcap is not None:
        products = softcap * torch.tanh(products / softcap)
    return torch.softmax(products + bias, dim=-1)


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
        return _as_bias(given) if given.dtype == torch.bool else given.float()
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
    return _as_bias(seen[None])


def _as_bias(seen: Tensor) -> Tensor:
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, -torch.inf)
