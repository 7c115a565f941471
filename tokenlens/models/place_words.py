"""Names of dtypes and device maps as a user writes them, checked without importing torch."""

from typing import Any

from tokenlens.errors import ModelError
from tokenlens.wording.suggest import one_of

DTYPES: dict[str, str] = {
    "float32": "float32",
    "fp32": "float32",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
    "half": "float16",
    "float64": "float64",
    "fp64": "float64",
}
"""What a user may write, and what torch calls it."""
_DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


def dtype_name(word: str) -> str:
    """Torch's name of a dtype, or "auto". Raises `ModelError` for a word that names none.

    >>> dtype_name("bf16"), dtype_name("torch.float32"), dtype_name("auto")
    ('bfloat16', 'float32', 'auto')
    """
    name = word.removeprefix("torch.")
    if name != "auto" and name not in DTYPES:
        raise ModelError(f"unknown dtype {word!r}: expected {one_of(name, ('auto', *DTYPES))}")
    return DTYPES.get(name, name)


def check_device_map(device_map: str | dict[str, Any] | None, device: object) -> None:
    """Raise `ModelError` for a device map unknown to accelerate, or one together with a device."""
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
