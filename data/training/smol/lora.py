"""Adapters in training: every decoder matrix is frozen and gets a low-rank change."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokenlens.models.composing.adapters import SCALE, adapted

RANK = 16


class Adapted(nn.Module):
    """A frozen linear map (kept in bfloat16) plus `SCALE · up · down`, which starts at zero."""

    def __init__(self, linear: nn.Linear, rank: int = RANK) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False).to(torch.bfloat16)
        spread = 1 / math.sqrt(linear.in_features)
        self.down = nn.Parameter(torch.randn(rank, linear.in_features) * spread)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Run under bfloat16 autocast: [..., inputs] to [..., outputs]."""
        change = functional.linear(functional.linear(x, self.down), self.up)
        base: Tensor = self.linear(x)
        return base + SCALE * change


def add_adapters(decoder: nn.Module, layers: int) -> None:
    """Put an adapter on every matrix that gets one, and freeze everything else, in place."""
    decoder.requires_grad_(False)
    for name in adapted(layers):
        parent, _, own = name.rpartition(".")
        setattr(decoder.get_submodule(parent), own, Adapted(decoder.get_submodule(name)))  # type: ignore[arg-type]


def adapters_of(decoder: nn.Module) -> dict[str, Tensor]:
    """The adapters by name, as `merge_adapters` takes them."""
    return {name: value for name, value in decoder.named_parameters() if value.requires_grad}
