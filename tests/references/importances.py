"""Importances written down plainly, from what transformers' eager attention shows of one sample."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    return model.get_decoder().layers


@contextmanager
def eager(model: PreTrainedModel) -> Iterator[None]:
    config = model.config.get_text_config()
    before, config._attn_implementation = config._attn_implementation, "eager"
    try:
        yield
    finally:
        config._attn_implementation = before


@torch.no_grad()
def projected_norms(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """Norm of what each head of each layer makes of every token: [layers, heads, n].

    The output projection itself is run on the value of one head, with zeros for all others.
    """
    found: list[Tensor] = []
    handles = []
    config = model.config.get_text_config()
    heads, groups = config.num_attention_heads, config.num_key_value_heads

    def norms(attention: nn.Module, values: Tensor) -> Tensor:
        by_head = values[0, :, -groups * attention.head_dim :].unflatten(-1, (groups, -1))
        by_head = by_head.repeat_interleave(heads // groups, dim=1)  # [n, heads, size]
        nothing = attention.o_proj(torch.zeros_like(by_head).flatten(1))
        rows = []
        for head in range(heads):
            alone = torch.zeros_like(by_head)
            alone[:, head] = by_head[:, head]
            rows.append((attention.o_proj(alone.flatten(1)) - nothing).norm(dim=-1))
        return torch.stack(rows)

    for layer in layers_of(model):
        attention = layer.self_attn
        source = attention.v_proj if hasattr(attention, "v_proj") else attention.qkv_proj
        handles.append(
            source.register_forward_hook(
                lambda _, __, output, attention=attention: found.append(norms(attention, output))
            )
        )
    try:
        model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(found)
