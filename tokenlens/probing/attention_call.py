"""One call of a layer's attention function, and the rows of its map that are wanted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tokenlens.errors import ProbeError
from tokenlens.probing.attention_weights import attention_weights, row_bias, scaling_of

MOST_WEIGHTS = 2**24
"""Attention weights held at once while many rows are read; more are read in turns."""


def check_options(options: dict[str, Any]) -> None:
    """Raise `ProbeError` for an attention call of a kind that cannot be read."""
    for name in ("s_aux", "position_bias"):
        if options.get(name) is not None:
            raise ProbeError(f"attention with {name} cannot be recorded; use a model without it")


@dataclass(frozen=True)
class AttentionCall:
    """What a layer's attention function was given.

    Attributes:
        module: whose attention it is.
        query: [batch, heads, rows, size], after rotary.
        key: [batch, key_value_heads, keys, size], those of the cache included.
        value: likewise.
        mask: as transformers hands it over (see `row_bias`).
        options: the remaining keyword arguments.
        causal: whether a row sees no key after itself, where the mask does not say it.
        cached: tokens before the first of `query`.
    """

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Any
    options: dict[str, Any]
    causal: bool
    cached: int

    @classmethod
    def of(
        cls,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Any,
        options: dict[str, Any],
        cached: int,
    ) -> "AttentionCall":
        """From what an observer is shown. Raises `ProbeError` for kinds that cannot be read."""
        check_options(options)
        causal = options.get("is_causal")
        causal = getattr(module, "is_causal", True) if causal is None else causal
        tensors = query.detach(), key.detach(), value.detach()
        return cls(module, *tensors, mask, options, causal, cached)

    @property
    def gone(self) -> int:
        """Keys that a sliding window has dropped already."""
        return max(0, self.cached + self.query.shape[2] - self.key.shape[2])

    @property
    def formula(self) -> dict[str, Any]:
        """What else the softmax depends on: its scaling and soft cap."""
        return {
            "scaling": scaling_of(self.query, self.options),
            "softcap": self.options.get("softcap"),
        }

    def bias(self, sample: int, place: int) -> Tensor:
        """What is added to the products of the token at `place`: float32 [1 or heads, keys]."""
        return row_bias(
            self.mask,
            sample=sample,
            row=place - self.cached,
            place=place - self.gone,
            keys=self.key.shape[2],
            causal=self.causal,
            window=self.options.get("sliding_window"),
            device=self.key.device,
        )

    def visual_rows(
        self,
        sample: int,
        places: Sequence[int],
        positions: Tensor,
        *,
        per_head: bool,
        scale: Tensor | None = None,
    ) -> Tensor:
        """The rows of some tokens to the visual tokens, never the whole map.

        Args:
            sample: index in the batch.
            places: of the query tokens in the sequence, none before `cached`.
            positions: int64 [n_visual], of the visual tokens in the sequence.
            per_head: keep the heads apart.
            scale: float32 [heads, n_visual], factors of the rows; None for none.

        Returns:
            float32 [heads, queries, n_visual], or [1, queries, n_visual] averaged over heads.
        """
        positions = positions.to(self.key.device) - self.gone
        heads, keys = self.query.shape[1], self.key.shape[2]
        block = max(1, min(MOST_WEIGHTS // (heads * keys), keys // (2 * heads)))
        key, found = self.key[sample].float(), []
        for start in range(0, len(places), block):
            part = places[start : start + block]
            rows = torch.tensor(part, device=self.query.device) - self.cached
            weights = attention_weights(
                self.query[sample, :, rows].float(),
                key,
                torch.stack([self.bias(sample, place) for place in part], dim=-2),
                **self.formula,
            )
            visual = weights[..., positions.clamp(min=0)] * (positions >= 0)
            visual = visual if scale is None else visual * scale[:, None]
            found.append(visual if per_head else visual.mean(dim=0, keepdim=True))
        return torch.cat(found, dim=1)
