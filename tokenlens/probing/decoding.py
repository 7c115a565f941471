"""The rows of tokens that come after the prompt, one a step, in a cache that grows.

The keys of every step stay in the cache. So a step only keeps its queries, and some steps' rows are
computed together, by the keys that are there then: a step of generation costs next to nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tokenlens.errors import ProbeError
from tokenlens.probing.attention_call import AttentionCall, check_options
from tokenlens.probing.steps import SeenKeys, Step, VisualColumns, step_rows

TOGETHER = 32
"""Steps whose rows are computed at once, where the cache allows it."""


@dataclass
class _Held:
    """The steps of one layer whose rows are still to be computed, and the latest keys."""

    steps: list[Step] = field(default_factory=list)
    key: Tensor | None = None


@dataclass
class DecodedRows:
    """Rows to the visual tokens of every step after the prompt, for every row of the batch.

    Attributes:
        layers: of the decoder.
        positions: int64 [n_visual], of the visual tokens in the sequence, per row of the batch.
        per_head: whether heads are kept apart.
        together: how many steps' rows are computed at once. 1 where keys may be moved or written
            over between two steps.
        fixed: whether every row of the batch goes on from itself, so that a cache whose rows were
            moved is to be noticed.
        length: tokens of the padded prompt.
        scales: by layer and row of the batch, factors of rows [heads, n_visual], which the prompt's
            values give; a layer without any has none.
        fed: int64 [batch], the token of each step.
    """

    layers: int
    positions: list[Tensor]
    per_head: bool
    together: int
    fixed: bool
    length: int
    scales: Mapping[int, Sequence[Tensor]] = field(default_factory=dict)
    fed: list[Tensor] = field(default_factory=list)
    _held: list[_Held] = field(init=False, repr=False)
    _found: list[list[list[Tensor]]] = field(init=False, repr=False)
    _columns: list[VisualColumns] = field(init=False, repr=False)
    _seen: SeenKeys = field(default_factory=SeenKeys, init=False, repr=False)
    _latest: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._held = [_Held() for _ in range(self.layers)]
        self._found = [[] for _ in range(self.layers)]
        self._columns = [VisualColumns.at(positions) for positions in self.positions]

    def follows(self, ids: Tensor, cached: int) -> bool:
        """Whether a forward on `ids` (int64 [batch, length]) is the next step."""
        ends = cached + ids.shape[1] == self.length + len(self.fed) + 1
        return ends and len(ids) == len(self.positions) and (cached == 0 or ids.shape[1] == 1)

    def observe(
        self,
        layer: int,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Any,
        options: dict[str, Any],
        cached: int,
    ) -> None:
        """Take one layer's attention call of the step under way, which `cached` tokens precede.

        Raises `ProbeError` where the cache's rows were moved though they are `fixed`.
        """
        if query.shape[2] > 1:  # without a cache: the whole sequence, again
            call = AttentionCall.of(module, query, key, value, mask, options, cached)
            self._observe_whole(layer, call)
            return
        keys = key.shape[2]
        gone = max(0, cached + 1 - keys)
        if self.fixed and layer == self.layers - 1:
            self._check_order(key, cached - gone)
        held = self._held[layer]
        if held.steps and held.steps[0].gone != gone:
            self._compute(layer)
        if not held.steps:
            check_options(options)
        held.steps.append(Step(query, mask, options, keys, gone))
        held.key = key
        if len(held.steps) >= self.together:
            self._compute(layer)

    def flush(self) -> None:
        """Compute what is still to be computed, and let go of the cache."""
        for layer in range(self.layers):
            self._compute(layer)
        self._seen = SeenKeys()

    def rows(self, layer: int, path: Sequence[int]) -> Tensor:
        """Rows of the first steps, float32 [heads or 1, steps, n_visual].

        `path` says of each step which row of the batch it is, all of them of one prompt.
        Raises `ProbeError` where a step was not recorded in that layer.
        """
        self._compute(layer)
        steps = [step for part in self._found[layer] for step in _by_step(part)]
        if len(steps) < len(path):
            raise ProbeError(
                f"layer {layer + 1} recorded {len(steps)} of {len(path)} decoding steps: the layers"
                " run on pruned tokens, or a forward was cut short; probe the unpruned model"
            )
        heads = steps[0][0].shape[0] if steps else 1
        empty = torch.empty(heads, 0, len(self.positions[path[0]]) if path else 0)
        chosen = [steps[step][row] for step, row in enumerate(path)]
        return torch.cat(chosen, dim=1).cpu() if chosen else empty

    def _observe_whole(self, layer: int, call: AttentionCall) -> None:
        last = call.query.shape[2] - 1
        rows = [
            call.visual_rows(
                sample, [last], own, per_head=self.per_head, scale=self._scale_of(layer, sample)
            )
            for sample, own in enumerate(self.positions)
        ]
        self._found[layer].append(rows)

    def _scale_of(self, layer: int, sample: int) -> Tensor | None:
        return self.scales[layer][sample] if layer in self.scales else None

    def _check_order(self, key: Tensor, place: int) -> None:
        """The last token's key is where it was: the deepest layer's depends on all before it."""
        if self._latest is not None and not torch.equal(key[:, :, place - 1], self._latest):
            raise ProbeError(
                "the rows of the cache were moved between two decoding steps, so that it is not "
                "known which row wrote what; let generate() do the beam search"
            )
        self._latest = key[:, :, place].clone()

    def _compute(self, layer: int) -> None:
        held = self._held[layer]
        if held.steps and held.key is not None:
            seen = self._seen.of(held.steps, held.key)
            rows = step_rows(
                held.steps,
                held.key,
                seen,
                self._columns,
                per_head=self.per_head,
                scales=self.scales.get(layer),
            )
            self._found[layer].append(rows)
        held.steps, held.key = [], None


def _by_step(rows: Sequence[Tensor]) -> list[list[Tensor]]:
    """Rows [heads, steps, n_visual] per sample, as those [heads, 1, n_visual] of every step."""
    return [list(step) for step in zip(*(row.split(1, dim=1) for row in rows), strict=True)]
