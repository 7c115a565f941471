"""Muon for the hidden matrices, AdamW for everything else, one learning-rate schedule for both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

CLIP = 1.0


class Optimisers:
    """Both optimisers as one, every step at a share of the peak rates.

    Args:
        named: the parameters to train, with their names.
        muon_rate: peak rate of the 2-d weights, scaled to AdamW's step size (`match_rms_adamw`).
        adamw_rate: peak rate of embeddings, norms, biases and convolutions.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        muon_rate: float,
        adamw_rate: float,
    ) -> None:
        trained = [(name, weight) for name, weight in named if weight.requires_grad]
        matrices = [w for name, w in trained if w.ndim == 2 and "embed" not in name]
        others = [w for name, w in trained if w.ndim != 2 or "embed" in name]
        self.weights = matrices + others
        self.parts: list[tuple[float, torch.optim.Optimizer]] = [
            (
                muon_rate,
                torch.optim.Muon(
                    matrices, lr=muon_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
                ),
            ),
            (
                adamw_rate,
                torch.optim.AdamW(others, lr=adamw_rate, betas=(0.9, 0.98), weight_decay=0.0),
            ),
        ]

    def step(self, scale: float) -> None:
        """One update at `scale` times the peak rates; gradients are cleared."""
        nn.utils.clip_grad_norm_(self.weights, CLIP)
        for rate, optimiser in self.parts:
            for group in optimiser.param_groups:
                group["lr"] = rate * scale
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """The state of both, for a checkpoint."""
        return [optimiser.state_dict() for _, optimiser in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Load the state of a checkpoint."""
        for (_, optimiser), state in zip(self.parts, states, strict=True):
            optimiser.load_state_dict(state)


def ramp(step: int, steps: int, *, warm: int, hold: float, floor: float) -> float:
    """The rate's scale: up over `warm` steps, level until `hold` of all, straight down to `floor`.

    >>> [ramp(s, 100, warm=10, hold=0.5, floor=0.0) for s in (0, 9, 50, 75, 100)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warm:
        return (step + 1) / warm
    down = (step / steps - hold) / (1 - hold)
    return 1.0 - (1.0 - floor) * min(1.0, max(0.0, down))
