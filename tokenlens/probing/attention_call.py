"""One call of a layer's attention function, and the rows of its map that are wanted."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tokenlens.errors import ProbeError
from tokenlens.probing.attention_weights import (
    attention_weights,
    row_bias,
    scaling_of,
    unread_option,
)

MOST_WEIGHTS = 2**24
"""Attention weights held at once while many rows are read; more are read in turns."""

_MOST_TOGETHER = 2**22
"""Numbers in the keys of a batch whose samples are read together; of a larger one, in turns."""


def check_options(options: dict[str, Any]) -> None:
    """Raise `ProbeError` for an attention call of a kind that cannot be read."""
    name = unread_option(options)
    if name is not None:
        raise ProbeError(f"attention with {name} cannot be recorded; use a model without it")


def ask_alike(places: Sequence[Sequence[int]]) -> bool:
    """Whether every sample asks for one place, the same one."""
    return all(len(own) == 1 and own[0] == places[0][0] for own in places)


class AttentionCall(NamedTuple):
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
        query, key, value = (
            one.detach() if one.requires_grad else one for one in (query, key, value)
        )
        return cls(module, query, key, value, mask, options, causal, cached)

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
        if self.sees_all(min(places)):
            return None
        return torch.stack([self._bias(sample, place) for place in places], dim=-2)

    def sees_all(self, place: int) -> bool:
        """Whether the token at `place` of every sample, and all after it, see every key."""
        last = not self.causal or place - self.gone >= self.key.shape[2] - 1
        return self.mask is None and self.options.get("sliding_window") is None and last

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
        heads, keys = self.query.shape[1], self.key.shape[2]
        block = max(1, min(MOST_WEIGHTS // (heads * keys), keys // (2 * heads)))
        key, found = self.key[sample].float(), []
        for start in range(0, len(places), block):
            part = places[start : start + block]
            weights = attention_weights(
                self._queries(sample, part).float(), key, self.biases(sample, part), **self.formula
            )
            found.append(
                self._of_visual(weights[None], positions[None], per_head=per_head, scale=scale)[0]
            )
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def rows_of_all(
        self,
        places: Sequence[Sequence[int]],
        positions: Sequence[Tensor],
        *,
        per_head: bool,
        scales: Sequence[Tensor] | None,
    ) -> list[Tensor]:
        """`visual_rows` of every sample; those of one place in a small batch are made together.

        Args:
            places: of every sample, as there.
            positions: likewise.
            per_head: as there.
            scales: of every sample; None for none.
        """
        factors = [None] * len(places) if scales is None else scales
        each = zip(places, positions, factors, strict=True)
        if not self._are_alike(places):
            return [
                self.visual_rows(sample, own, visual, per_head=per_head, scale=scale)
                for sample, (own, visual, scale) in enumerate(each)
            ]
        place = places[0][0]
        row, seen = place - self.cached, None
        if not self.sees_all(place):
            seen = torch.stack([self._bias(sample, place) for sample in range(len(places))])
            seen = seen.unsqueeze(-2)  # [batch, 1 or heads, 1, keys]
        query, key = self.query[:, :, row : row + 1].float(), self.key.float()
        weights = attention_weights(query, key, seen, **self.formula)
        if scales is None and len({len(visual) for visual in positions}) == 1:
            return list(self._of_visual(weights, torch.stack(list(positions)), per_head=per_head))
        return [
            self._of_visual(rows[None], visual[None], per_head=per_head, scale=scale)[0]
            for rows, (_, visual, scale) in zip(weights, each, strict=True)
        ]

    def _are_alike(self, places: Sequence[Sequence[int]]) -> bool:
        """Whether one place of all samples is wanted, and their keys are few."""
        return ask_alike(places) and len(places) > 1 and self.key.numel() <= _MOST_TOGETHER

    def _of_visual(
        self,
        weights: Tensor,
        positions: Tensor,
        *,
        per_head: bool,
        scale: Tensor | None = None,
    ) -> Tensor:
        """Of weights those of the visual tokens, averaged over heads unless `per_head`.

        `weights` are [samples, heads, queries, keys], `positions` [samples, n_visual]; `scale` is
        as in `visual_rows`, where there is one sample.
        """
        if scale is None and not per_head:
            weights = weights.mean(dim=1, keepdim=True)
        place = positions.to(weights.device)[:, None, None]  # [samples, 1, 1, n_visual]
        left = None
        if self.gone:
            left, place = place >= self.gone, (place - self.gone).clamp(min=0)
        # [samples, heads or 1, queries, n_visual]
        visual = weights.gather(-1, place.expand(-1, *weights.shape[1:3], -1))
        if left is not None:
            visual = visual * left
        if scale is None:
            return visual
        visual = visual * scale[:, None]
        return visual if per_head else visual.mean(dim=1, keepdim=True)

    def _queries(self, sample: int, places: Sequence[int]) -> Tensor:
        """The queries of the tokens at `places`: [heads, queries, size]."""
        if len(places) == 1:
            row = places[0] - self.cached
            return self.query[sample, :, row : row + 1]
        return self.query[sample, :, torch.tensor(places, device=self.query.device) - self.cached]
