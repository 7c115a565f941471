"""Weights that are no numbers are found when they are loaded, not by what they spoil."""

from pathlib import Path

import torch
from torch import nn

from tokenlens.errors import ModelError


def check_finite(model: nn.Module, folder: Path) -> None:
    """Raise `ModelError` naming a weight that holds NaN or infinity.

    Reads every weight once; those that accelerate keeps offloaded are not looked at.
    """
    for name, weight in model.named_parameters():
        if weight.is_meta or not weight.is_floating_point() or not weight.numel():
            continue
        # NaN and infinity both show in the extremes, which need no memory of the weight's size.
        extremes = torch.stack(torch.aminmax(weight.detach()))
        if not bool(extremes.isfinite().all()):
            raise ModelError(
                f"the weights in {folder} are damaged: {name} holds values that are not finite "
                "numbers; copy the checkpoint's files again"
            )
