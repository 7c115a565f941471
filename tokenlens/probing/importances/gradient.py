"""Importance "gradient": attention times its gradient, for the token that the prompt makes written.

With y the logit of the most likely next token and α_hj the attention of the last prompt token q to
visual token j in head h, the importance of j is the mean over heads of max(0, α_hj · ∂y/∂α_hj)
(Chefer et al., "Generic Attention-model Explainability", ICCV 2021, arXiv 2103.15679, eq. 5): what
attention would, by its slope, add to the token that is written. No map is built for it: the
gradient of a weight is the product of the value it weighs with the gradient of what the head gives,
∂y/∂α_hj = v_hj · ∂y/∂o_hq, so that one backward pass is enough. Image and video tokens are never
the most likely ones.
"""

from typing import Any

import torch
from torch import Tensor, nn

from tokenlens.errors import ProbeError
from tokenlens.models.structure import (
    image_token_id,
    layer_by_module,
    text_config,
    video_token_id,
)
from tokenlens.probing.attention import observe_attention
from tokenlens.probing.attention_call import AttentionCall
from tokenlens.probing.importances.importance import PromptRun, RunImportance
from tokenlens.probing.queries import last_tokens
from tokenlens.registry import IMPORTANCE_SUMMARIES, IMPORTANCE_UNITS

_CUT_OFF = (
    "importance 'gradient' needs a gradient from the next token back to every layer's attention, "
    "which {why}; load the model whole on one device and not quantised, or use 'value-weighted'"
)


class _Layers:
    """What each layer's attention is given and gives, with a graph from the first layer on."""

    def __init__(self, run: PromptRun) -> None:
        self._last = last_tokens(run.attended)
        self._positions = run.positions
        self._layer_of = layer_by_module(run.model)
        self.attention: dict[int, list[Tensor]] = {}
        self.values: dict[int, list[Tensor]] = {}
        self.outputs: dict[int, Tensor] = {}

    def observe(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Any,
        options: dict[str, Any],
    ) -> None:
        layer = self._layer_of.get(module)
        if layer is None:
            return
        call = AttentionCall.of(module, query, key, value, mask, options, 0)
        with torch.no_grad():
            self.attention[layer] = [
                call.visual_rows(sample, [last], own, per_head=True)[:, 0]
                for sample, (last, own) in enumerate(zip(self._last, self._positions, strict=True))
            ]
        self.values[layer] = [
            call.value[sample][:, own.to(value.device)]
            for sample, own in enumerate(self._positions)
        ]
        torch.set_grad_enabled(True)  # from here on; what came before is not asked for

    def receive(self, module: nn.Module, output: Tensor) -> None:
        layer = self._layer_of.get(module)
        if layer is not None:
            self.outputs[layer] = output if output.requires_grad else output.requires_grad_()

    def products(self, layer: int, sample: int, gradient: Tensor) -> Tensor:
        """max(0, attention · gradient): float32 [heads, n_visual]."""
        attention, values = self.attention[layer][sample], self.values[layer][sample].float()
        groups = len(attention) // len(values)
        slope = gradient[sample, self._last[sample]].float()  # [heads, size]
        by_group = slope.unflatten(0, (-1, groups))  # [key_value_heads, groups, size]
        slopes = (by_group @ values.transpose(-1, -2)).flatten(0, 1)  # [heads, n_visual]
        product: Tensor = attention * slopes.to(attention.device)
        return product.clamp(min=0)


def attention_gradient(run: PromptRun) -> list[Tensor]:
    """The importance of every head, layer and sample; see the module.

    Raises `ProbeError` where no gradient reaches the layers.
    """
    layers = _Layers(run)
    implementation = text_config(run.model)._attn_implementation
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        observe_attention(implementation, layers.observe, layers.receive),
    ):
        inputs = {
            name: value.clone() if isinstance(value, Tensor) else value
            for name, value in run.inputs.items()
        }
        output = run.model(**inputs, use_cache=False, return_dict=True)
        gradients = _gradients(run, output.logits, list(layers.outputs.values()))
    by_layer = [
        [layers.products(layer, sample, gradient) for sample in range(len(run.ids))]
        for layer, gradient in zip(layers.outputs, gradients, strict=True)
    ]
    return [torch.stack([one.cpu() for one in layer]) for layer in zip(*by_layer, strict=True)]


def _gradients(run: PromptRun, logits: Tensor, outputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Those of every sample's most likely next token; samples do not read each other."""
    if not logits.requires_grad:
        raise ProbeError(_CUT_OFF.format(why="does not come back from the logits"))
    last = torch.tensor(last_tokens(run.attended), device=logits.device)
    following = logits[torch.arange(len(last), device=logits.device), last]  # [batch, vocabulary]
    likely = following.detach().clone()
    for token in (image_token_id(run.model), video_token_id(run.model)):
        if token is not None:
            likely[:, token] = torch.finfo(likely.dtype).min
    chosen = following.gather(1, likely.argmax(dim=1, keepdim=True)).sum()
    try:
        return torch.autograd.grad(chosen, outputs)
    except RuntimeError as error:
        raise ProbeError(_CUT_OFF.format(why="is cut off between them")) from error


IMPORTANCE = RunImportance(
    attention_gradient,
    summary=IMPORTANCE_SUMMARIES["gradient"],
    unit=IMPORTANCE_UNITS["gradient"],
    source="Chefer et al., ICCV 2021, arXiv 2103.15679, eq. 5",
)
