"""Device and dtype of a model, from the words a user writes."""

import torch

from tokenlens.errors import ModelError
from tokenlens.models.place_words import DTYPES, dtype_name


def find_device(device: str | torch.device | None) -> torch.device:
    """The named device, by default the accelerator if there is one; `ModelError` if not available.

    >>> find_device("cpu")
    device(type='cpu')
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return accelerator or torch.device("cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ModelError(
            f"unknown device {device!r}: expected cpu, cuda, cuda:1, mps, …"
        ) from error
    if found.type == "cpu":
        return found
    if accelerator is None or found.type != accelerator.type:
        here = "cpu" if accelerator is None else f"cpu and {accelerator.type}"
        raise ModelError(f"device {str(device)!r} is not available: this machine has {here}")
    if found.index is not None and found.index >= torch.accelerator.device_count():
        raise ModelError(
            f"device {str(device)!r} is not available: this machine has "
            f"{torch.accelerator.device_count()} of type {found.type}, counted from 0"
        )
    return found


def find_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype | str:
    """The named dtype, or "auto" for the checkpoint's own; `ModelError` for an unknown one.

    By default float32 on a CPU, where half precision is slow, and "auto" elsewhere.

    >>> find_dtype("bf16", torch.device("cpu"))
    torch.bfloat16
    """
    if dtype is None:
        return torch.float32 if device.type == "cpu" else "auto"
    if isinstance(dtype, torch.dtype) and str(dtype).removeprefix("torch.") in DTYPES.values():
        return dtype
    name = dtype_name(str(dtype))
    return name if name == "auto" else getattr(torch, name)
