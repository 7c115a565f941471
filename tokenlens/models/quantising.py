"""Settings with which transformers quantises a model as it loads it."""

import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel, QuantoConfig, TorchAoConfig

from tokenlens.errors import ModelError, TokenlensWarning
from tokenlens.models.quantisation import QUANTISATIONS


def quantisation_config(name: str, device: torch.device) -> Any:
    """The settings of a quantisation that `check_quantisation` has passed.

    Raises `ModelError` where the device cannot run it.
    """
    if QUANTISATIONS[name].cuda and device.type != "cuda":
        raise ModelError(
            f"quantize {name!r} needs a CUDA device, got {device.type}; expected one of "
            f"{', '.join(one for one, how in QUANTISATIONS.items() if not how.cuda)} here"
        )
    if name == "quanto-int4" and device.type == "cpu":
        _build_quanto_extension()
    return _CONFIGS[name]()


def work_in_inference_mode(name: str, model: PreTrainedModel) -> None:
    """Make quanto's 4-bit layers work where torch's inference mode is on, in place.

    They unpack their weights into a tensor class of their own, which cannot be made in that mode
    (optimum-quanto 0.2.7: "Cannot set version_counter for inference tensor"). So these layers alone
    leave it, still without gradients.
    """
    if name != "quanto-int4":
        return
    from optimum.quanto.nn import QModuleMixin

    for module in model.modules():
        if isinstance(module, QModuleMixin):
            module.forward = _outside(module.forward)


def _outside(forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def call(*args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            return forward(*args, **kwargs)

    return call


def _torchao_int8() -> TorchAoConfig:
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def _torchao_int8_dynamic() -> TorchAoConfig:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    return TorchAoConfig(Int8DynamicActivationInt8WeightConfig())


_CONFIGS: Mapping[str, Callable[[], Any]] = {
    "torchao-int8": _torchao_int8,
    "torchao-int8-dynamic": _torchao_int8_dynamic,
    "quanto-int8": lambda: QuantoConfig(weights="int8"),
    "quanto-int4": lambda: QuantoConfig(weights="int4"),
    "bitsandbytes-int8": lambda: BitsAndBytesConfig(load_in_8bit=True),
    "bitsandbytes-int4": lambda: BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
}


def _build_quanto_extension() -> None:
    """Compile what unpacks 4-bit weights on a CPU, where it is not there yet.

    optimum-quanto does so at first use, and waits without end for a build that was killed. Raises
    `ModelError` where such a build left its lock, or where compiling fails.
    """
    build = Path(str(files("optimum.quanto"))) / "library" / "extensions" / "cpp" / "build"
    lock = build / "lock"
    if lock.exists():
        raise ModelError(
            f"quantize 'quanto-int4' waits for a build of optimum-quanto's extension: {lock} is "
            "there; wait until the build ends, or delete the file where it was killed"
        )
    if not (build / "quanto_cpp.so").exists():
        warnings.warn(
            "optimum-quanto compiles its extension for 4-bit weights, once; this takes a minute",
            TokenlensWarning,
            stacklevel=2,
        )
    import_module("optimum.quanto")  # registers the operation
    try:
        torch.ops.quanto.unpack(torch.zeros(1, dtype=torch.uint8), 4)
    except Exception as error:
        # Whatever a compiler, or its absence, leads to.
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"quantize 'quanto-int4' needs an extension of optimum-quanto on a CPU, and building "
            f"it failed: {reason}; install a C++ compiler and ninja, or use 'quanto-int8'"
        ) from error
