"""Export of the parts of `smol-llava` that ship: its directory without the base's files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig, LlavaForConditionalGeneration

from tokenlens.models.composing.compose import ADAPTERS, VISION

from .family import SmolLlava

STORED = torch.bfloat16


def export(
    family: SmolLlava,
    model: LlavaForConditionalGeneration,
    adapters: Mapping[str, Tensor],
    folder: Path,
) -> None:
    """Write adapters, tower and projector (bfloat16), configuration and processor.

    Args:
        family: the architecture.
        model: the model, of whose decoder only the configuration is written.
        adapters: as `composing.adapters.merge_adapters` takes them.
        folder: the folder to write into.
    """
    folder.mkdir(parents=True, exist_ok=True)
    family.save_processor(folder)
    ids = model.config.get_text_config()
    generation = GenerationConfig(
        do_sample=False, eos_token_id=ids.eos_token_id, pad_token_id=ids.pad_token_id
    )
    generation.save_pretrained(folder)
    model.config.architectures = [type(model).__name__]
    model.config.dtype = STORED
    model.config.save_pretrained(folder)
    seen = {
        key: value
        for key, value in model.model.state_dict().items()
        if not key.startswith("language_model.")
    }
    for weights, file in ((seen, VISION), (adapters, ADAPTERS)):
        stored = {key: value.detach().to(STORED).contiguous() for key, value in weights.items()}
        save_file(stored, folder / file)
    for path in folder.iterdir():
        path.chmod(0o644)
