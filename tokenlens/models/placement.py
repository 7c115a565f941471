"""Where a model is put and in which precision, from the words a user writes."""

import torch

from tokenlens.errors import ModelError
from tokenlens.wording.suggest import one_of

_DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
    "half": torch.float16,
    "float64": torch.float64,
    "fp64": torch.float64,
}
_DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


def find_device(device: str | torch.device | None) -> torch.device:
    """The device meant, by default the accelerator if there is one. Raises `ModelError`.

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
    """The dtype meant, or "auto" for the checkpoint's own. Raises `ModelError`.

    By default float32 on a CPU, where half precision is slow, and "auto" elsewhere.

    >>> find_dtype("bf16", torch.device("cpu"))
    torch.bfloat16
    """
    if dtype is None:
        return torch.float32 if device.type == "cpu" else "auto"
    if dtype == "auto" or dtype in _DTYPES.values():
        return dtype
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise ModelError(
            f"unknown dtype {str(dtype)!r}: expected {one_of(name, ('auto', *_DTYPES))}"
        )
    return _DTYPES[name]


def check_device_map(device_map: str | dict | None, device: str | torch.device | None) -> None:
    """Raise `ModelError` for a device map accelerate does not know, or one beside a device."""
    if device_map is None:
        return
    if device is not None:
        raise ModelError(
            f"device {str(device)!r} and device_map {device_map!r} exclude each other: give one"
        )
    if isinstance(device_map, str) and device_map not in _DEVICE_MAPS:
        raise ModelError(
            f"unknown device_map {device_map!r}: expected {one_of(device_map, _DEVICE_MAPS)}"
        )
