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

    def biases(self, sample: int, places: Sequence[int]) -> Tensor | None:
        """What is added to the products of some tokens; None where each of them sees every key.

        float32 [1 or heads, queries, keys].
        """
        window, keys = self.options.get("sliding_window"), self.key.shape[2]
        last = not self.causal or min(places) - self.gone >= keys - 1
        if self.mask is None and window is None and last:
            return None
        return torch.stack([self._bias(sample, place) for place in places], dim=-2)

    def _bias(self, sample: int, place: int) -> Tensor:
        """That of the token at `place`: float32 [1 or heads, keys]."""
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
        positions, left = positions.to(self.key.device), None
        if self.gone:
            positions = positions - self.gone
            positions, left = positions.clamp(min=0), positions >= 0
        heads, keys = self.query.shape[1], self.key.shape[2]
        block = max(1, min(MOST_WEIGHTS // (heads * keys), keys // (2 * heads)))
        key, found = self.key[sample].float(), []
        for start in range(0, len(places), block):
            part = places[start : start + block]
            weights = attention_weights(
                self._queries(sample, part).float(), key, self.biases(sample, part), **self.formula
            )
            visual = weights.index_select(-1, positions)
            visual = visual if left is None else visual * left
            visual = visual if scale is None else visual * scale[:, None]
            found.append(visual if per_head else visual.mean(dim=0, keepdim=True))
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def _queries(self, sample: int, places: Sequence[int]) -> Tensor:
        """The queries of the tokens at `places`: [heads, queries, size]."""
        if len(places) == 1:
            row = places[0] - self.cached
            return self.query[sample, :, row : row + 1]
        return self.query[sample, :, torch.tensor(places, device=self.query.device) - self.cached]
