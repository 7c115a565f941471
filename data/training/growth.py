"""Growth of a trained decoder to more layers, with unchanged logits."""

from __future__ import annotations

from typing import cast

from torch import nn
from transformers import PreTrainedModel

from .family import Family


def grow(family: Family, model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """A model of `layers` decoder layers with the same logits; new layers precede each trained one.

    A new layer has random weights but writes nothing into the residual stream yet: its two output
    projections are zero, and the first gradients they get begin to use it. New layers come *before*
    the trained ones, so that the picture is read in deeper layers.

    Args:
        family: family of the model.
        model: the trained model; it is not changed.
        layers: the new depth, `factor` times the old one; layer i becomes layer `factor` x i.
    """
    old = family.decoder(model).layers
    factor, rest = divmod(layers, len(old))
    if rest:
        raise ValueError(f"{layers} layers is no multiple of the {len(old)} trained ones")
    with model.device:
        grown = family.make_model(layers)
    family.tower(grown).load_state_dict(family.tower(model).state_dict())
    for part in ("embed_tokens", "norm"):
        trained = getattr(family.decoder(model), part).state_dict()
        getattr(family.decoder(grown), part).load_state_dict(trained)
    for index, layer in enumerate(family.decoder(grown).layers):
        before, place = divmod(index, factor)
        if place == factor - 1:
            layer.load_state_dict(old[before].state_dict())
        else:
            for projection in ("self_attn.o_proj", "mlp.down_proj"):
                nn.init.zeros_(cast(nn.Linear, layer.get_submodule(projection)).weight)
    return grown
