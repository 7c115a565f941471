"""Low-rank adapters (LoRA) on a Llama's matrices: their names, and adding them to its weights."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from tokenlens.errors import ModelError

SCALE = 2.0
"""A matrix W with the adapter (down, up) is W + SCALE · up · down."""
MATRICES = (
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
)
"""What is adapted in every decoder layer."""


def adapted(layers: int) -> Iterator[str]:
    """The names of all adapted matrices within a decoder of so many layers.

    >>> next(adapted(30)), len(list(adapted(30)))
    ('layers.0.self_attn.q_proj', 210)
    """
    for layer in range(layers):
        for matrix in MATRICES:
            yield f"layers.{layer}.{matrix}"


@torch.no_grad()
def merge_adapters(decoder: nn.Module, layers: int, adapters: Mapping[str, Tensor]) -> None:
    """Add adapters to a decoder's matrices, in place, computed in float32.

    Args:
        decoder: the text decoder, with `layers` decoder layers.
        layers: how many.
        adapters: for each matrix `NAME.down` [rank, inputs] and `NAME.up` [outputs, rank].

    Raises `ModelError` where an adapter is missing or of another shape.
    """
    for name in adapted(layers):
        weight = decoder.get_submodule(name).get_parameter("weight")
        down, up = adapters.get(f"{name}.down"), adapters.get(f"{name}.up")
        if down is None or up is None:
            raise ModelError(f"the adapters have none for {name}; take them from a whole release")
        change = SCALE * up.float() @ down.float()
        if change.shape != weight.shape:
            raise ModelError(
                f"the adapter of {name} is for a matrix {tuple(change.shape)}, the base has "
                f"{tuple(weight.shape)}: this base is another model"
            )
        weight.add_(change)
