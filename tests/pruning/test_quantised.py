"""Quantised and adapted models against the full-length masked reference of the same model.

Quantised weights change no rule of the engine: what runs is another function, the same one with and
without pruning. optimum-quanto and PEFT compute in float64, where the engine, the probe and the
references agree to the last digits; torchao only in float32 and below.
"""

from dataclasses import replace

import pytest
import torch

import tokenlens as tl
from tests.support.comparing import (
    compare,
    difference,
    eager_maps,
    probe_difference,
    read,
    references,
    tokens_for,
)
from tests.support.engine_support import stage
from tests.support.families import RAGGED, case
from tests.support.family_models import random_model
from tests.support.family_plans import KEEP_ALL, named_plans, plan_for
from tests.support.quantised import (
    CPU,
    each,
    installed,
    quantised_case,
    with_rounded_layers,
)

TOLERANCE = 1e-10
SINGLE = 2e-4
"""Of logits up to 11 in float32, whose step there is 1e-6, through six layers."""
FAMILIES = pytest.mark.parametrize("family", ["Qwen2-VL", "LLaVA-1.5", "Gemma3"])
PLANS = ("drop three", "merge three", "bypass three", "freeze three")


def plan_of(found, name):
    return plan_for(found.model, named_plans(found.family.merges_from)[name])


def assert_exact(found):
    for name in PLANS:
        made = compare(found, plan_of(found, name), steps=2)
        assert made.choices == (), name
        assert made.logits < TOLERANCE, name
    worst = compare(found, plan_of(found, "drop three"), steps=2, worst_at=0)
    assert worst.logits > 1e4 * TOLERANCE  # the control
    assert probe_difference(found) < TOLERANCE
    assert probe_difference(found, row_from_last=2) > 1e4 * TOLERANCE


@each("quanto-int8", "quanto-int4")
@FAMILIES
def test_quanto_is_exact_in_float64(family, quantize):
    assert_exact(quantised_case(family, quantize, torch.float64))


@FAMILIES
def test_int8_activations_are_exact_in_float64(family):
    """A scale per token: what a token becomes does not depend on those that left."""
    assert_exact(with_rounded_layers(case(family, RAGGED)))


@pytest.mark.skipif(not installed("peft"), reason="needs PEFT")
@FAMILIES
def test_an_adapter_is_exact_in_float64(family):
    from peft import LoraConfig, inject_adapter_in_model

    model = random_model(family)
    torch.manual_seed(0)
    settings = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    plain = case(family, RAGGED)
    adapted = inject_adapter_in_model(settings, model).double().eval()
    with torch.no_grad():
        apart = adapted(**plain.inputs).logits - plain.model(**plain.inputs).logits
    assert apart.abs().max() > 0.1
    assert_exact(replace(plain, model=adapted))


@each("torchao-int8", "quanto-int8")
@FAMILIES
def test_int8_weights_in_float32(family, quantize):
    """The same selections, and logits and rows within float32's rounding."""
    found = quantised_case(family, quantize, torch.float32)
    tokens = tokens_for(found, 2)
    for name in PLANS:
        plan = plan_of(found, name)
        with torch.no_grad(), tl.prune(found.model, plan) as trace:
            logits, _ = read(found.model, found.inputs, tokens)
        with torch.no_grad():
            expected = references(found, plan)
        for row, reference in enumerate(expected):
            for mine, theirs in zip(trace.stages, reference.stages, strict=True):
                places = (mine.selected[row] - found.offsets[row]).tolist()
                assert places == theirs.selected, name
        assert difference(logits, expected, tokens) < SINGLE, name
        with torch.no_grad():
            other = references(found, plan_of(found, "drop late"))
        assert difference(logits, other, tokens) > 100 * SINGLE, name  # the control
    assert rows_apart(found) < 1e-5


def rows_apart(found, layers=slice(None)):
    """Largest difference of the probe's rows from eager attention's, of all samples alone."""
    image = found.model.config.image_token_id
    errors = []
    with torch.no_grad():
        for inputs in found.alone:
            with tl.probe(found.model, per_head=True) as recording:
                found.model(**inputs)
            visual = inputs["input_ids"][0] == image
            expected = eager_maps(found.model, inputs)[:, :, -1, visual]
            errors.append((recording.per_head[0] - expected)[layers].abs().max())
    return float(torch.stack(errors).max())


@each("torchao-int8-dynamic")
@FAMILIES
def test_int8_activations_of_torchao(family, quantize):
    """Layer 1 has the same inputs in both; later ones round what differs by 1e-7 apart."""
    found = quantised_case(family, quantize, torch.float32)
    assert rows_apart(found, slice(1)) < 1e-5
    assert rows_apart(found) > 1e-5  # why no later layer is compared
    first = plan_for(found.model, [stage(1, "after", 0.5)])
    with torch.no_grad(), tl.prune(found.model, first) as trace:
        found.model(**found.inputs)
    with torch.no_grad():
        expected = references(found, first)
    for row, reference in enumerate(expected):
        places = (trace.stages[0].selected[row] - found.offsets[row]).tolist()
        assert places == reference.stages[0].selected


@each("torchao-int8-dynamic")
def test_a_tokens_scale_is_its_own(quantize):
    found = quantised_case("Qwen2-VL", quantize, torch.float32)
    layer = found.model.get_decoder().layers[0].mlp.up_proj
    rows = torch.randn(40, layer.in_features, generator=torch.Generator().manual_seed(1))
    rows[7] *= 1000
    with torch.no_grad():
        whole = layer(rows)
        alone = torch.cat([layer(rows[:7]), layer(rows[7:8]), layer(rows[8:])])
        assert torch.equal(whole, alone)
        assert (whole - torch.nn.functional.linear(rows, layer.weight.dequantize())).abs().max() > 0


@each(*CPU)
@FAMILIES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeping_everything_and_probing_change_no_bit(family, quantize, dtype):
    found = quantised_case(family, quantize, dtype)
    tokens = tokens_for(found, 2)
    with torch.no_grad():
        plain, _ = read(found.model, found.inputs, tokens)
        with tl.prune(found.model, plan_for(found.model, KEEP_ALL)):
            pruned, _ = read(found.model, found.inputs, tokens)
        with tl.probe(found.model):
            probed = found.model(**found.inputs).logits[:, -1]
    assert torch.equal(plain, pruned)
    assert torch.equal(plain[:, 0], probed)


@each("torchao-int8", "quanto-int8")
def test_costs_do_not_depend_on_the_weights_bits(quantize):
    """MACs are those of the arithmetic; the cache is in the model's own number type."""
    found = quantised_case("Qwen2-VL", quantize, torch.float32)
    whole = random_model("Qwen2-VL").float()
    plan = plan_of(found, "bypass three")
    costs = []
    for model in (found.model, whole):
        with torch.no_grad(), tl.prune(model, plan) as trace:
            model(**found.inputs)
        costs.append(repr(trace.cost))
    assert "prefill_macs" in costs[0]
    assert costs[0] == costs[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each("bitsandbytes-int8", "bitsandbytes-int4")
def test_bitsandbytes_on_a_gpu(quantize):
    found = quantised_case("Qwen2-VL", quantize, torch.bfloat16)
    inputs, tokens = found.inputs.to("cuda"), tokens_for(found, 2).cuda()
    with torch.no_grad():
        plain, _ = read(found.model, inputs, tokens)
        with tl.prune(found.model, plan_for(found.model, KEEP_ALL)):
            pruned, _ = read(found.model, inputs, tokens)
    assert torch.equal(plain, pruned)
