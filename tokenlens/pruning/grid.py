"""Uniform grid over the pictures of a prompt, for stages that always keep the tokens on it."""

import math

import torch
from torch import Tensor


def on_grid(visual: Tensor, stride: int) -> Tensor:
    """Which visual tokens lie on the grid that takes every `stride`-th row and column.

    A run of consecutive visual tokens is a picture. One of n·n tokens has n rows and columns, as
    FEATHER takes it (arXiv 2412.13180); of another number every `stride`²-th token is taken, the
    first one first, which is the same share of them.

    Args:
        visual: bool [batch, length], the visual tokens of a padded input.
        stride: rows and columns from one grid line to the next.

    Returns:
        bool [batch, length].

    >>> on_grid(torch.tensor([[False] + 9 * [True]]), 2).int()
    tensor([[0, 1, 0, 1, 0, 0, 0, 1, 0, 1]], dtype=torch.int32)
    """
    found = torch.zeros_like(visual, device="cpu")
    for row, places in zip(found, visual.cpu(), strict=True):
        for run in _runs(places):
            row[run[_lattice(len(run), stride)]] = True
    return found.to(visual.device)


def _runs(places: Tensor) -> list[Tensor]:
    """The indices (int64) of each run of True."""
    there = places.nonzero().flatten()
    ends = (there.diff() > 1).nonzero().flatten() + 1
    return [run for run in there.tensor_split(ends.tolist()) if len(run)]


def _lattice(count: int, stride: int) -> Tensor:
    side = math.isqrt(count)
    if side * side != count:
        return torch.arange(0, count, stride**2)
    # [side, side] to [rows on the grid, columns on the grid], flattened row by row
    return torch.arange(count).view(side, side)[::stride, ::stride].flatten()
