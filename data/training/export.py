"""Writing a trained model as an ordinary local model directory."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import torch
from transformers import Qwen2VLForConditionalGeneration

from .model import make_image_processor
from .tokenizer import make_tokenizer


def export(
    model: Qwen2VLForConditionalGeneration, folder: Path, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Save rounded weights, configuration, tokenizer, chat template and image processor.

    The model itself is left as it is.
    """
    rounded = Qwen2VLForConditionalGeneration._from_config(deepcopy(model.config), dtype=dtype)
    rounded.load_state_dict(model.state_dict())
    rounded.generation_config = model.generation_config
    rounded.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    make_image_processor().save_pretrained(folder)
    # The name under which every installation of transformers finds the class its backend can run.
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["image_processor_type"] = "Qwen2VLImageProcessor"
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    for file in folder.iterdir():
        file.chmod(0o644)
