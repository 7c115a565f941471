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
DISK = "disk"
_DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential", DISK)


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


def parts_of(device_map: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """The device map as accelerate takes it: all weights on the disk is a map of the whole model.

    >>> parts_of("disk"), parts_of("auto")
    ({'': 'disk'}, 'auto')
    """
    return {"": DISK} if device_map == DISK else device_map


def check_whole(purpose: str, device_map: str | dict[str, Any] | None) -> None:
    """Raise `ModelError` where a device map leaves weights on the disk that a purpose needs."""
    parts = parts_of(device_map)
    if isinstance(parts, dict) and DISK in parts.values():
        raise ModelError(
            f"{purpose} needs the weights in memory, and device_map {device_map!r} leaves them on "
            "the disk; leave one of the two out"
        )
