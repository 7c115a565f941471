"""Check of loaded weights for NaN and infinity."""

from pathlib import Path

import torch
from torch import nn

from tokenlens.errors import ModelError
from tokenlens.models.tensor_parts import plain_parts


def check_finite(model: nn.Module, folder: Path) -> None:
    """Raise `ModelError` with the name of a weight that holds NaN or infinity.

    Reads every weight once; weights that accelerate has offloaded are not checked.
    """
    named = (part for pair in model.named_parameters() for part in plain_parts(*pair))
    for name, weight in named:
        if weight.is_meta or not weight.is_floating_point() or not weight.numel():
            continue
        # Minimum and maximum show NaN and infinity, without a mask of the weight's size in memory.
        extremes = torch.stack(torch.aminmax(weight.detach()))
        if not bool(extremes.isfinite().all()):
            raise ModelError(
                f"the weights in {folder} are damaged: {name} holds values that are not finite "
                "numbers; copy the checkpoint's files again"
            )
