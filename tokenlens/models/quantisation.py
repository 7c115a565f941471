"""Ways to quantise a model's weights as it is loaded, by name; checked without importing torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tokenlens.errors import ModelError
from tokenlens.models.place_words import check_whole, dtype_name
from tokenlens.wording.suggest import one_of

_ALL_FLOATS = ("float32", "bfloat16", "float16", "float64", "auto")
_NO_DOUBLE = ("float32", "bfloat16", "float16", "auto")


@dataclass(frozen=True)
class Quantisation:
    """One way to quantise.

    Attributes:
        package: The package that does it, as pip knows it.
        least: Its first version that works here.
        extra: The extra of tokenlens that installs it.
        what: What becomes of weights and activations.
        dtypes: In which of torch's number types the rest of the model can compute.
        cuda: Whether it needs a CUDA device.
    """

    package: str
    least: tuple[int, ...]
    extra: str
    what: str
    dtypes: tuple[str, ...] = _ALL_FLOATS
    cuda: bool = False


_TORCHAO: Mapping[str, Any] = {
    "package": "torchao",
    "least": (0, 15),
    "extra": "torchao",
    "dtypes": _NO_DOUBLE,
}
_QUANTO: Mapping[str, Any] = {"package": "optimum-quanto", "least": (0, 2, 7), "extra": "quanto"}
_BITSANDBYTES: Mapping[str, Any] = {
    "package": "bitsandbytes",
    "least": (0, 46, 1),
    "extra": "bitsandbytes",
    "dtypes": _NO_DOUBLE,
    "cuda": True,
}
QUANTISATIONS: Mapping[str, Quantisation] = {
    "torchao-int8": Quantisation(what="int8 weights", **_TORCHAO),
    "torchao-int8-dynamic": Quantisation(
        what="int8 weights, and activations in int8 with a scale per token", **_TORCHAO
    ),
    "quanto-int8": Quantisation(what="int8 weights", **_QUANTO),
    "quanto-int4": Quantisation(what="int4 weights", **_QUANTO),
    "bitsandbytes-int8": Quantisation(
        what="int8 weights and activations, large activations in float16", **_BITSANDBYTES
    ),
    "bitsandbytes-int4": Quantisation(what="4-bit weights (NF4)", **_BITSANDBYTES),
}
"""What `quantize` takes. Quantised are the linear layers of decoder and vision tower alike; the
output head, embeddings, norms and the KV cache stay as they are."""


def check_quantisation(
    name: str | None,
    *,
    dtype: str | None = None,
    device_map: str | dict[str, Any] | None = None,
    own: str | None = None,
) -> Quantisation | None:
    """The quantisation of that name; None for None.

    Args:
        name: A key of `QUANTISATIONS`.
        dtype: The number type that the user asks for, if any.
        device_map: The device map that the user asks for, if any.
        own: How the checkpoint itself is quantised, if it is.

    Raises:
        ModelError: An unknown name, a package that is missing or too old, a number type in which it
            cannot compute, weights that stay on the disk, a checkpoint that is quantised.
    """
    if name is None:
        return None
    found = QUANTISATIONS.get(name)
    if found is None:
        raise ModelError(f"quantize: got {name!r}, expected {one_of(name, QUANTISATIONS)}")
    if own is not None:
        raise ModelError(
            f"quantize: got {name!r}, but the checkpoint is quantised already, by {own!r}; leave "
            "quantize out"
        )
    require_package(f"quantize {name!r}", found.package, found.least, found.extra)
    if dtype is not None and dtype_name(dtype) not in found.dtypes:
        raise ModelError(
            f"quantize {name!r} cannot compute in {dtype_name(dtype)}: expected dtype "
            f"{', '.join(found.dtypes)}"
        )
    check_whole(f"quantize {name!r}", device_map)
    return found


def quantised_by(settings: Any) -> str | None:
    """The method by which a checkpoint is quantised, by its configuration's entry for that."""
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    return method if method is None else str(method)


def require_package(purpose: str, package: str, least: tuple[int, ...], extra: str) -> None:
    """Raise `ModelError` where a package is missing, or older than what its purpose needs."""
    wanted = ".".join(map(str, least))
    remedy = f'install it with: pip install "tokenlens[{extra}]"'
    try:
        found = version(package)
    except PackageNotFoundError as error:
        raise ModelError(f"{purpose} needs {package} {wanted} or later; {remedy}") from error
    if _numbers(found) < least:
        raise ModelError(f"{purpose} needs {package} {wanted} or later, found {found}; {remedy}")


def _numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version.

    >>> _numbers("0.18.0+cpu"), _numbers("0.46.1.post1")
    ((0, 18, 0), (0, 46, 1))
    """
    release = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in release[0].split(".")) if release else ()
