"""Identity of a model by its content: every value and setting that affects its answers.

The hash is computed at each use: neither a sample of the values nor the tensors' version counters
detect every change (`weight.data`, kernels and NumPy views bypass them). SHA-256 of 2 GiB of
weights takes about 2 s on one core (measured: bfloat16 2.0 s, float32 2.4 s), BLAKE2b takes 3 s.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from itertools import chain
from typing import Any, Protocol

import torch
from accelerate.utils import align_module_device, has_offloaded_params
from torch import Tensor, nn
from transformers import PreTrainedModel

from tokenlens.errors import ModelError
from tokenlens.models.tensor_parts import kind_of, plain_parts
from tokenlens.storage.files import hash_json

_BLOCK = 1 << 21
"""Values that are hashed at a time."""
_ADAPTER_STATE = (
    "_active_adapter",
    "_disable_adapters",
    "merged_adapters",
    "scaling",
    "use_rslora",
    "use_dora",
)
"""What PEFT's layers hold beside their weights: which adapters are on, and how much they count."""
_COMPUTING = {
    "torchao": "torchao",
    "optimum": "optimum-quanto",
    "bitsandbytes": "bitsandbytes",
    "peft": "peft",
}
"""Modules and packages that compute in place of torch, in quantised and adapted models."""
_PLAIN = (str, int, float, bool, list, dict, type(None))
_UNHEARD = ("transformers_version", "_from_model_config")
"""Keys of a generation configuration that change nothing."""


class LoadedModel(Protocol):
    """A model with its processor and the name it was loaded by, such as a `VLM`."""

    @property
    def id(self) -> str | None:
        """The name it was loaded by."""

    @property
    def revision(self) -> str | None:
        """The commit, or the branch."""

    @property
    def model(self) -> PreTrainedModel:
        """The Hugging Face model."""

    @property
    def processor(self) -> Any:
        """The processor; None where it came without."""

    @property
    def quantize(self) -> str | None:
        """How it was quantised when it was loaded."""

    @property
    def adapter(self) -> str | None:
        """The adapter that was put onto it when it was loaded."""

    @property
    def config_hash(self) -> str:
        """Hash of architecture, configuration and weights."""

    @property
    def dtype(self) -> torch.dtype:
        """The number type in which it computes."""


def model_identity(vlm: LoadedModel) -> dict[str, Any]:
    """Values that identify a model, as JSON.

    `weights` is the same in every number type that holds the checkpoint exactly; `dtype` names the
    type. `modules` covers what is not in a checkpoint: other buffers, the modules' classes, kinds
    of quantised weights, and the active adapters. `quantize` and `adapter` are there where the
    model was loaded with them, `packages` where others than torch and transformers compute. The
    rest are the attention's implementation, the processor's settings with its chat template, and
    the model's own generation settings.
    """
    loaded = {
        "quantize": vlm.quantize,
        "adapter": vlm.adapter,
        "packages": _packages(vlm.model) or None,
    }
    return {
        "id": vlm.id,
        "revision": vlm.revision,
        **{name: value for name, value in loaded.items() if value is not None},
        "config_hash": vlm.config_hash,
        "dtype": str(vlm.dtype).removeprefix("torch."),
        "weights": weights_hash(vlm.model),
        "modules": _modules_hash(vlm.model),
        "attention": _attention(vlm.model),
        "processor": _processor_hash(vlm.processor),
        "generation": _generation_hash(vlm.model),
    }


def require_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise `ModelError` where a worker's model, or its code, is another than expected."""
    other = [key for key, value in expected.items() if found.get(key) != value]
    if other:
        raise ModelError(
            f"a worker has another {', '.join(other)}; expected the same model files, data type "
            "and version of tokenlens on every machine"
        )


def saved_values(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Name and values of all weights and saved buffers; offloaded ones are fetched, one by one.

    Of a quantised weight these are its parts: the integers, the scales. Values that were not loaded
    (see `load_outline`) are on the device `meta`.
    """
    for name, value in _saved(model):
        yield from plain_parts(name, value)


def _saved(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    state = {name: held for name, held in model.state_dict().items() if isinstance(held, Tensor)}
    yield from ((name, value) for name, value in state.items() if not value.is_meta)
    for prefix, module in model.named_modules():
        names = {local: f"{prefix}.{local}".lstrip(".") for local in _own_names(module)}
        away = {
            local: name for local, name in names.items() if name in state and state[name].is_meta
        }
        if away and has_offloaded_params(module):
            with align_module_device(module, torch.device("cpu")):
                yield from ((name, getattr(module, local).detach()) for local, name in away.items())
        else:
            yield from ((name, state[name]) for name in away.values())


def weights_hash(model: PreTrainedModel) -> str:
    """Hash of every value of every weight and saved buffer, 16 hexadecimal digits.

    The same for a checkpoint in every number type that holds it exactly.
    """
    return hash_json({name: _values_hash(value) for name, value in saved_values(model)})


def _own_names(module: nn.Module) -> list[str]:
    """The names of a module's own parameters and buffers."""
    return [*module._parameters, *module._buffers]


def _values_hash(values: Tensor) -> str:
    """Hash of a tensor's shape and values, a block at a time in the narrowest type that fits."""
    digest = hashlib.sha256(str(tuple(values.shape)).encode())
    if not values.is_meta:
        flat = values.detach().reshape(-1)
        for start in range(0, flat.numel(), _BLOCK):
            block = _narrowed(flat[start : start + _BLOCK].to("cpu"))
            digest.update(str(block.dtype).encode())
            digest.update(block.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _narrowed(block: Tensor) -> Tensor:
    """Floating-point values as bfloat16, float32 or float64: the first that holds them exactly."""
    if block.dtype == torch.float64:
        single = block.float()
        block = single if torch.equal(single.double(), block) else block
    elif block.is_floating_point() and block.dtype != torch.bfloat16:
        block = block.float()
    if block.dtype == torch.float32:
        low = block.view(torch.int32)
        if not any((part & 0xFFFF).any() for part in (low[:256], low)):  # the first often suffice
            block = block.bfloat16()
    return block


def _modules_hash(model: PreTrainedModel) -> str:
    """Hash of the modules' classes, adapters and buffers that are not in a checkpoint."""
    saved = model.state_dict().keys()
    buffers = {
        name: _values_hash(value) for name, value in model.named_buffers() if name not in saved
    }
    modules = {
        name: [type(module).__qualname__, _adapters(module)]
        for name, module in model.named_modules()
    }
    weights = {name: kind_of(weight) for name, weight in model.named_parameters()}
    kinds = {name: kind for name, kind in weights.items() if kind is not None}
    return hash_json([buffers, modules, *([kinds] if kinds else [])])


def _packages(model: PreTrainedModel) -> dict[str, str]:
    """Versions of the packages of `_COMPUTING` that a model's modules or weights come from."""
    parts = chain(model.modules(), model.parameters())
    names = {type(part).__module__.partition(".")[0] for part in parts}
    return {package: version(package) for name, package in _COMPUTING.items() if name in names}


def _adapters(module: nn.Module) -> dict[str, str]:
    held = vars(module)
    return {name: str(held[name]) for name in _ADAPTER_STATE if name in held}


def _attention(model: PreTrainedModel) -> dict[str, str | None]:
    """The attention implementation of the model and of each of its parts."""
    parts = {"model": model.config} | {
        name: getattr(model.config, name, None) for name in model.config.sub_configs
    }
    return {name: getattr(part, "_attn_implementation", None) for name, part in parts.items()}


def _generation_hash(model: PreTrainedModel) -> str:
    settings = model.generation_config.to_dict()
    return hash_json({key: settings[key] for key in settings if key not in _UNHEARD})


def _processor_hash(processor: Any) -> str:
    """Hash of the settings of a processor and its parts, with the tokenizer's vocabulary."""
    if processor is None:
        return hash_json(None)
    held = vars(processor)
    plain = {key: value for key, value in held.items() if isinstance(value, _PLAIN)}
    parts = {key: _part(value) for key, value in held.items() if not isinstance(value, _PLAIN)}
    text = json.dumps([type(processor).__name__, plain, parts], sort_keys=True, default=str)
    return hash_json(text)


def _part(part: Any) -> Any:
    """The settings of an image processor or a tokenizer, without state that a call leaves."""
    backend = getattr(part, "backend_tokenizer", None)
    if backend is not None:
        content = json.loads(backend.to_str())
        left = {key: content[key] for key in content if key not in ("padding", "truncation")}
        return [type(part).__name__, left, getattr(part, "chat_template", None)]
    return [type(part).__name__, part.to_dict() if hasattr(part, "to_dict") else str(part)]
