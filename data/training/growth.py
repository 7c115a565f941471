"""Deepening a trained decoder without losing anything at the moment of growth."""

from __future__ import annotations

from typing import cast

from torch import nn
from transformers import Qwen2VLForConditionalGeneration

from .model import decoder, make_model, tower


def grow(model: Qwen2VLForConditionalGeneration, layers: int) -> Qwen2VLForConditionalGeneration:
    """A model of `layers` decoder layers with the same logits, the trained layers spread evenly.

    A new layer has random weights but writes nothing into the residual stream yet: its two output
    projections are zero, and the first gradients they get begin to use it.

    Args:
        model: the trained model; left as it is.
        layers: the new depth, a multiple of the old one. Tripled, each trained layer stands
            between two new ones; doubled, behind a new one.
    """
    old = decoder(model).layers
    factor, rest = divmod(layers, len(old))
    if rest:
        raise ValueError(f"{layers} layers is no multiple of the {len(old)} trained ones")
    with model.device:
        grown = make_model(layers)
    tower(grown).load_state_dict(tower(model).state_dict())
    for part in ("embed_tokens", "norm"):
        getattr(decoder(grown), part).load_state_dict(getattr(decoder(model), part).state_dict())
    for index, layer in enumerate(decoder(grown).layers):
        before, place = divmod(index, factor)
        if place == factor // 2:
            layer.load_state_dict(old[before].state_dict())
        else:
            for projection in ("self_attn.o_proj", "mlp.down_proj"):
                nn.init.zeros_(cast(nn.Linear, layer.get_submodule(projection)).weight)
    return grown
