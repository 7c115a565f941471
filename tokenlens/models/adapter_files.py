"""Checks of an adapter's files, without PEFT or torch."""

from pathlib import Path

from tokenlens.errors import ModelError
from tokenlens.models.quantisation import require_package
from tokenlens.storage.json_files import read_object

_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_REMEDY = "expected an adapter directory as written by PEFT's save_pretrained"
_LEAST = (0, 18)


def check_adapter(folder: Path) -> None:
    """Raise `ModelError` where PEFT is missing or `folder` holds no adapter."""
    path = folder / _CONFIG
    if not path.is_file():
        raise ModelError(f"adapter: {folder} has no {_CONFIG}; {_REMEDY}")
    read_object(path, ModelError, _REMEDY)
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise ModelError(f"adapter: {folder} has no {_WEIGHTS[0]}; {_REMEDY}")
    require_package("adapter", "peft", _LEAST, "peft")
