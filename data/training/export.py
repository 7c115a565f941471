"""Writing a trained model as an ordinary local model directory."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from transformers import PreTrainedModel

from .family import Family


def export(
    family: Family, model: PreTrainedModel, folder: Path, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Save rounded weights, configuration, tokenizer, chat template and image processor.

    The model itself is not changed.
    """
    rounded = type(model)._from_config(deepcopy(model.config), dtype=dtype)
    rounded.load_state_dict(model.state_dict())
    rounded.generation_config = model.generation_config
    rounded.save_pretrained(folder)
    family.save_processor(folder)
    for file in folder.iterdir():
        file.chmod(0o644)
