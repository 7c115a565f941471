"""A pretrained decoder and its tokenizer, out of a GGUF file or a model directory."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tokenlens.errors import ModelError

PLACEHOLDER = "<empty_output>"
"""A token of the base's vocabulary that no text needs; its id becomes the picture's."""
IMAGE_TOKEN = "<image>"  # noqa: S105 - no password


def load_decoder(base: Path) -> PreTrainedModel:
    """The base as a causal language model in float32, its weights dequantised.

    Raises `ModelError` where it cannot be read, or the package `gguf` is wanted and missing.
    """
    folder, options = _place(base)
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, **options
        )
    except Exception as error:
        # Reading GGUF raises whatever a damaged file happens to break.
        raise ModelError(f"the base {base} cannot be loaded: {str(error)[:200]}") from error
    return model


def save_tokenizer(base: Path, folder: Path) -> None:
    """Write the base's tokenizer into `folder`, with IMAGE_TOKEN under the placeholder's id."""
    place, options = _place(base)
    tokenizer: Any = AutoTokenizer.from_pretrained(
        place, local_files_only=True, padding_side="left", **options
    )
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        file = folder / name
        text = file.read_text(encoding="utf-8")
        file.write_text(
            text.replace(json.dumps(PLACEHOLDER), json.dumps(IMAGE_TOKEN)), encoding="utf-8"
        )


def _place(base: Path) -> tuple[Path, dict[str, str]]:
    if base.is_dir():
        return base, {}
    if find_spec("gguf") is None:
        raise ModelError(
            "reading the base needs the package gguf: pip install 'tokenlens[smol]' (or gguf alone)"
        )
    return base.parent, {"gguf_file": base.name}
