"""The ceiling: the same layers on as many tokens, without the engine."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, cast

import torch
from torch import nn
from torch.utils.benchmark.utils.timer import timer
from transformers import DynamicCache, PreTrainedModel

from tokenlens.benching.timing import Turn, peak_bytes
from tokenlens.models.structure import decoder


class EngineFree:
    """Runs the decoder's layers on given widths: tokens are cut off, nothing is scored.

    Args:
        model: in eval mode.
        embedded: inputs of the first layer, [batch, tokens, hidden]; values do not matter.
        widths: tokens entering each layer, text included; they never grow in the timing that
            matters, and where they do (tokens that come back), rows are repeated.
    """

    def __init__(
        self, model: PreTrainedModel, embedded: torch.Tensor, widths: Sequence[int]
    ) -> None:
        self.model, self.embedded = model, embedded
        self.parts = _parts(decoder(model), widths)

    def forward(self) -> None:
        """One prefill of the decoder, the head on its last token included."""
        inner: Any = decoder(self.model)
        hidden = self.embedded
        whole = inner.layers
        try:
            for layers, width in self.parts:
                inner.layers = layers
                rows = hidden if width <= hidden.shape[1] else self.embedded
                cache = DynamicCache(config=inner.config)
                hidden = inner(
                    inputs_embeds=rows[:, :width], past_key_values=cache, use_cache=True
                ).last_hidden_state
        finally:
            inner.layers = whole
        cast(Any, self.model).get_output_embeddings()(hidden[:, -1:])

    def turn(self) -> Turn:
        """Time one turn; there is no tower."""
        began = timer()
        self.forward()
        return {"prefill": timer() - began}

    def peak(self) -> int | None:
        """As `Plain.peak`."""
        return peak_bytes(self.model.device, self.forward)


def _parts(inner: Any, widths: Sequence[int]) -> list[tuple[nn.ModuleList, int]]:
    """Runs of layers of one width."""
    numbered = groupby(zip(inner.layers, widths, strict=True), key=lambda pair: pair[1])
    return [(nn.ModuleList(layer for layer, _ in run), width) for width, run in numbered]
