"""Quantised random models of the families, and a stand-in for activations in int8."""

import tempfile
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, BatchFeature, PreTrainedModel

from tests.support.families import RAGGED, Case, case
from tests.support.family_models import random_model
from tokenlens.models.quantisation import QUANTISATIONS
from tokenlens.models.quantising import quantisation_config

_MODULES = {
    "torchao": "torchao",
    "optimum-quanto": "optimum.quanto",
    "bitsandbytes": "bitsandbytes",
}
CPU = [name for name, how in QUANTISATIONS.items() if not how.cuda]


def installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def param(name: str) -> object:
    """The name of a quantisation, skipped where its package is not installed."""
    package = QUANTISATIONS[name].package
    marks = [pytest.mark.skipif(not installed(_MODULES[package]), reason=f"needs {package}")]
    if name == "quanto-int4":
        marks.append(pytest.mark.slow)  # compiles an extension at first use
    return pytest.param(name, marks=marks)


def each(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("quantize", [param(name) for name in names])


@cache
def quantised_model(family: str, quantize: str, dtype: torch.dtype) -> PreTrainedModel:
    """A family's random model, quantised as it is loaded; shared by all tests."""
    device = torch.device("cuda" if QUANTISATIONS[quantize].cuda else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        random_model(family).to(dtype).save_pretrained(folder)
        return AutoModelForImageTextToText.from_pretrained(
            Path(folder),
            dtype=dtype,
            quantization_config=quantisation_config(quantize, device),
            device_map={"": device},
            local_files_only=True,
        ).eval()


def quantised_case(family: str, quantize: str, dtype: torch.dtype) -> Case:
    """A ragged batch for it, and every sample of the batch alone."""
    found = case(family, RAGGED)
    return replace(
        found,
        model=quantised_model(family, quantize, dtype),
        inputs=cast(found.inputs, dtype),
        alone=tuple(cast(one, dtype) for one in found.alone),
    )


def cast(inputs: BatchFeature, dtype: torch.dtype) -> BatchFeature:
    found = inputs.copy()
    for name, value in inputs.items():
        found[name] = value.to(dtype) if value.is_floating_point() else value
    return found


class RoundedLinear(nn.Linear):
    """A linear layer whose weights, by output, and inputs, by token, are rounded to 255 steps.

    What dynamic int8 computes, in any number type: in float64 sums in another order round to the
    same step, so that two ways of computing one thing can be compared.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False)
        self.weight = nn.Parameter(_rounded(linear.weight.data), requires_grad=False)
        self.bias = linear.bias

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.linear(_rounded(inputs), self.weight, self.bias)


def _rounded(values: Tensor) -> Tensor:
    step = values.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
    return (values / step).round() * step


def with_rounded_layers(found: Case) -> Case:
    """The case with the decoder's linear layers replaced."""
    model = random_model(found.name)
    for layer in model.get_decoder().layers:
        for name, module in list(layer.named_modules()):
            if isinstance(module, nn.Linear):
                parent, _, own = name.rpartition(".")
                setattr(layer.get_submodule(parent), own, RoundedLinear(module))
    return replace(found, model=model)
