"""Adapters of PEFT (LoRA and others) on a loaded model."""

from pathlib import Path
from typing import Any

from accelerate.utils import has_offloaded_params
from transformers import PreTrainedModel

from tokenlens.errors import ModelError
from tokenlens.models.adapter_files import check_adapter
from tokenlens.models.finite import check_finite

_NAME = "default"


def add_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Put the adapter in `folder` onto a model, in place and not merged into its weights.

    Raises:
        ModelError: PEFT is missing, the folder holds no adapter, a damaged one, or one of another
            model, whose modules or shapes are not the model's; weights are offloaded.
    """
    check_adapter(folder)
    if any(has_offloaded_params(module) for module in model.modules()):
        raise ModelError(
            "an adapter needs the model's weights in memory, and its device_map leaves a part of "
            "them on the CPU or the disk; give it a device, or leave the adapter out"
        )
    try:
        info: Any = model.load_adapter(
            str(folder), adapter_name=_NAME, adapter_kwargs={"local_files_only": True}
        )
    except Exception as error:
        # PEFT raises whatever its configuration leads to.
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:250]
        raise ModelError(
            f"the adapter in {folder} cannot be put onto this {type(model).__name__}: {reason}; "
            "expected one made for this model"
        ) from error
    wrong = {
        "weights that the model has no place for": info.unexpected_keys,
        "no weights for": info.missing_keys,
        "other shapes for": info.mismatched_keys,
    }
    for what, names in wrong.items():
        if names:
            raise ModelError(
                f"the adapter in {folder} does not fit this {type(model).__name__}: it has {what} "
                f"{min(map(str, names))[:120]}; expected one made for this model"
            )
    check_finite(model, folder)
