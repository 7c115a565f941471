"""Half precision and the attention kernels of a GPU."""

from importlib.util import find_spec

import pytest
import torch

import tokenlens as tl
from tests.support.comparing import read, tokens_for
from tests.support.families import FAMILIES, ONE, RAGGED, case
from tests.support.family_models import random_model
from tests.support.family_plans import KEEP_ALL, named_plans, plan_for

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
FLASH = pytest.param(
    "flash_attention_2",
    marks=pytest.mark.skipif(find_spec("flash_attn") is None, reason="needs flash-attn"),
)
IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["sdpa", "eager", FLASH])
STEPS = 4


def on_gpu(name, implementation, sizes=RAGGED, dtype=torch.bfloat16):
    """A model and its batch in `dtype` on the GPU; windows are FlashAttention's refusal."""
    if implementation == "flash_attention_2" and FAMILIES[name].window:
        pytest.skip("sliding windows are refused under FlashAttention")
    found = case(name, sizes)
    inputs = found.inputs.copy().to("cuda")
    for key, value in inputs.items():
        inputs[key] = value.to(dtype) if value.is_floating_point() else value
    model = random_model(name).to("cuda", dtype)
    model.set_attn_implementation({"text_config": implementation})
    return found, model, inputs, tokens_for(found, STEPS).cuda()


@IMPLEMENTATIONS
@pytest.mark.parametrize("name", FAMILIES)
def test_keeping_everything_is_bit_identical_in_bfloat16(name, implementation):
    _, model, inputs, tokens = on_gpu(name, implementation)
    with torch.no_grad():
        plain, _ = read(model, inputs, tokens)
        with tl.prune(model, plan_for(model, KEEP_ALL)):
            pruned, _ = read(model, inputs, tokens)
    assert torch.equal(plain, pruned)


@IMPLEMENTATIONS
@pytest.mark.parametrize("name", FAMILIES)
def test_the_probe_sees_what_float32_sees_and_changes_no_bit(name, implementation):
    found, model, inputs, _ = on_gpu(name, implementation)
    with torch.no_grad():
        plain = model(**inputs).logits
        with tl.probe(model) as recording:
            assert torch.equal(model(**inputs).logits, plain)
        with tl.probe(found.model) as exact:
            found.model(**found.inputs)
    for one, other in zip(recording.importance, exact.importance, strict=True):
        torch.testing.assert_close(one[0], other[0], atol=0.05, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_pruning_in_float32_equals_the_processor(name):
    """The same tokens are selected, and the logits differ by rounding alone."""
    found, model, inputs, tokens = on_gpu(name, "sdpa", dtype=torch.float32)
    torch.backends.cuda.matmul.allow_tf32 = False
    plan = plan_for(model, named_plans(found.family.merges_from)["bypass three"])
    with torch.no_grad():
        with tl.prune(model, plan) as trace:
            logits, _ = read(model, inputs, tokens)
        with tl.prune(found.model, plan) as exact:
            expected, _ = read(found.model, found.inputs, tokens.cpu())
    for one, other in zip(trace.stages, exact.stages, strict=True):
        assert all(map(torch.equal, one.selected, other.selected))
    torch.testing.assert_close(logits.cpu().double(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if not family.window])
def test_flash_attention_prunes_like_sdpa(name):
    """Where the same tokens are dropped; importance in half precision may order ties otherwise."""
    if find_spec("flash_attn") is None:
        pytest.skip("needs flash-attn")
    found, model, inputs, tokens = on_gpu(name, "sdpa", sizes=ONE)
    plan = plan_for(
        model,
        [{"score_layer": 0, "when": "after", "keep": 0.5, "disposal": "drop"}],
        query="random",
        seed=1,
    )
    with torch.no_grad():
        with tl.prune(model, plan):
            expected, _ = read(model, inputs, tokens)
        model.set_attn_implementation({"text_config": "flash_attention_2"})
        with tl.prune(model, plan):
            logits, _ = read(model, inputs, tokens)
    assert found.name == name
    scale = expected.abs().max()
    assert (logits - expected).abs().max() < 0.05 * scale
