"""Everything a context could leave behind on a model or in transformers."""

import copy

import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


def snapshot(model):
    """Every hook and attribute of every module, configurations, and the attention functions."""
    modules = {}
    for name, module in model.named_modules():
        values = dict(vars(module))
        values.pop("rope_deltas", None)  # the model's own, written by every forward pass
        hooks = {
            key: list(value.items()) for key, value in values.items() if key.endswith("_hooks")
        }
        extras = {
            key: dict(value)
            for key, value in values.items()
            if key.startswith(("_forward", "_backward")) and isinstance(value, dict)
        }
        others = {
            key: id(value)
            for key, value in values.items()
            if key not in hooks and not key.startswith("_forward")
        }
        modules[name] = (module.forward.__func__, hooks, extras, others)
    return {
        "modules": modules,
        "config": copy.deepcopy(model.config.to_dict()),
        "generation": model.generation_config.to_dict(),
        "attention": {
            name: module.config._attn_implementation
            for name, module in model.named_modules()
            if hasattr(module, "config")
        },
        "functions": dict(ALL_ATTENTION_FUNCTIONS),
        "masks": dict(ALL_MASK_ATTENTION_FUNCTIONS),
        "training": {name: module.training for name, module in model.named_modules()},
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
    }


def assert_same(model, before):
    after = snapshot(model)
    weights, expected = after.pop("weights"), before["weights"]
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert after == {name: value for name, value in before.items() if name != "weights"}
