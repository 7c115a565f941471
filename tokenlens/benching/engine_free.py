"""The ceiling: the same model with its layers on as many tokens, without the engine."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import groupby
from typing import Any

from torch import Tensor, nn
from torch.utils.benchmark.utils.timer import timer
from transformers import BatchFeature, DynamicCache, PreTrainedModel

from tokenlens.benching.timing import Tower, Turn, peak_bytes
from tokenlens.models.structure import decoder
from tokenlens.pruning.projections import replace_forward

_OF_TOKENS = ("attention_mask", "position_ids", "cache_position")
"""Arguments of a decoder whose last axis is the tokens."""


class EngineFree:
    """Runs a model whose decoder cuts tokens off between its layers: nothing is scored or hooked.

    Args:
        model: in eval mode.
        inputs: of one batch.
        widths: tokens entering each layer, text included; they never grow in the timing that
            matters, and where they do (tokens that come back), those of the first layer are taken.
        made: what the vision tower makes of the pictures.
    """

    def __init__(
        self, model: PreTrainedModel, inputs: BatchFeature, widths: Sequence[int], made: object
    ) -> None:
        self.model, self.inputs, self.made = model, inputs, made
        self.parts = _parts(decoder(model), widths)

    def forward(self) -> None:
        """One prefill, of which the logits of the last token are asked for."""
        with ExitStack() as stack:
            self._enter(stack)
            self._prefill()

    def turn(self) -> Turn:
        """Time one turn, without the vision tower."""
        with ExitStack() as stack:
            self._enter(stack)
            began = timer()
            self._prefill()
            return {"prefill": timer() - began}

    def peak(self) -> int | None:
        """As `Plain.peak`."""
        return peak_bytes(self.model.device, self.forward)

    def _enter(self, stack: ExitStack) -> None:
        inner: Any = decoder(self.model)
        own, whole = inner.forward, inner.layers
        stack.callback(setattr, inner, "layers", whole)
        stack.enter_context(Tower(self.made).watching(self.model))
        replace_forward(stack, inner, lambda **given: self._decode(inner, own, given))

    def _prefill(self) -> None:
        self.model(**self.inputs, use_cache=True, logits_to_keep=1)

    def _decode(self, inner: Any, own: Callable[..., Any], given: dict[str, Any]) -> Any:
        """In place of the decoder's forward function: run the layers in parts."""
        arguments = {name: given.get(name) for name in _OF_TOKENS}
        embedded: Tensor = given["inputs_embeds"]
        hidden, output = embedded, None
        for layers, width in self.parts:
            inner.layers = layers
            rows = hidden if width <= hidden.shape[1] else embedded
            narrow = {name: _cut(value, width) for name, value in arguments.items()}
            output = own(
                inputs_embeds=rows[:, :width],
                past_key_values=DynamicCache(config=inner.config),
                use_cache=True,
                **narrow,
            )
            hidden = output.last_hidden_state
        return output


def _cut(value: Any, width: int) -> Any:
    return value[..., :width] if isinstance(value, Tensor) else value


def _parts(inner: Any, widths: Sequence[int]) -> list[tuple[nn.ModuleList, int]]:
    """Runs of layers of one width."""
    numbered = groupby(zip(inner.layers, widths, strict=True), key=lambda pair: pair[1])
    return [(nn.ModuleList(layer for layer, _ in run), width) for width, run in numbered]
