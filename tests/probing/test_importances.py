"""Every importance beside a plain writing of its formula, on all families."""

import copy

import pytest
import torch

import tokenlens as tl
from tests.references.importances import attention_gradients, projected_norms
from tests.support.comparing import eager_maps, eager_steps
from tests.support.families import FAMILIES, ONE, RAGGED, case
from tests.support.true_float64 import true_float64
from tokenlens.errors import ProbeError
from tokenlens.models.structure import decoder_layers
from tokenlens.registry import IMPORTANCE_SUMMARIES, IMPORTANCE_UNITS, IMPORTANCES

EXACT = 1e-10
SEEN = 1e-6
"""What every control must differ by."""
STEPS = 4
EVERY_FAMILY = pytest.mark.parametrize("name", FAMILIES)


def test_each_importance_says_what_it_is():
    assert list(IMPORTANCES) == list(IMPORTANCE_SUMMARIES) == list(IMPORTANCE_UNITS)
    for name, importance in IMPORTANCES.items():
        assert importance.summary == IMPORTANCE_SUMMARIES[name]
        assert importance.unit == IMPORTANCE_UNITS[name]
        assert importance.source


@EVERY_FAMILY
def test_value_weighted_rows_equal_their_formula(name):
    """In a ragged batch, per head, in true float64; attention alone is the control."""
    found = case(name, RAGGED)
    with true_float64(), torch.no_grad():
        with tl.probe(found.model, importance="value-weighted", per_head=True) as recording:
            found.model(**found.inputs)
        for row, inputs in enumerate(found.alone):
            visual = inputs["input_ids"][0] == found.model.config.image_token_id
            attention = eager_maps(found.model, inputs)[:, :, -1, visual]
            norms = projected_norms(found.model, inputs)[..., visual]
            assert (recording.per_head[row] - attention * norms).abs().max() < EXACT
            assert (recording.per_head[row] - attention).abs().max() > SEEN
            other = attention * norms.roll(1, dims=1)
            assert (recording.per_head[row] - other).abs().max() > SEEN
            mean = (attention * norms).mean(dim=1)
            assert (recording.importance[row] - mean).abs().max() < EXACT


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"use_cache": False}], ids=str)
@pytest.mark.parametrize("name", ["Qwen2-VL", "Qwen3-VL", "Gemma3", "LLaVA + Phi3"])
def test_value_weighted_rows_of_generated_tokens(name, options):
    found = case(name, RAGGED)
    image = found.model.config.image_token_id
    length = found.inputs["input_ids"].shape[1]
    with true_float64(), torch.no_grad():
        with tl.probe(
            found.model, queries="generated", importance="value-weighted", per_head=True
        ) as recording:
            ids = found.model.generate(
                **found.inputs, max_new_tokens=STEPS, suppress_tokens=[image, 0], **options
            )
        for row, inputs in enumerate(found.alone):
            attention = eager_steps(found.model, inputs, ids[row, length:-1])
            norms = projected_norms(found.model, inputs)[..., inputs["input_ids"][0] == image]
            expected = attention * norms[:, :, None]
            assert (recording.per_head[row] - expected).abs().max() < EXACT
            assert (recording.per_head[row] - attention).abs().max() > SEEN


def test_the_output_is_untouched_and_the_default_is_attention():
    found = case("Qwen2-VL", RAGGED)
    with torch.no_grad():
        plain = found.model(**found.inputs).logits
        with tl.probe(found.model) as default:
            found.model(**found.inputs)
        with tl.probe(found.model, importance="attention") as attention:
            found.model(**found.inputs)
        with tl.probe(found.model, importance="value-weighted"):
            probed = found.model(**found.inputs).logits
    assert torch.equal(plain, probed)
    assert all(map(torch.equal, default.importance, attention.importance))


@pytest.mark.parametrize("importance", ["attenion", 3, None])
def test_an_unknown_importance_is_refused_at_once(importance):
    with (
        pytest.raises(
            ProbeError, match=r"\Aimportance: got [^\n]*expected [^\n]*attention[^\n]*\Z"
        ),
        tl.probe(case("Qwen2-VL", RAGGED).model, importance=importance),
    ):
        pass


class Adapted(torch.nn.Linear):
    """A linear layer with a low-rank part beside its weight, as an adapter makes it."""

    def __init__(self, base):
        super().__init__(base.in_features, base.out_features, bias=False)
        self.weight = base.weight
        generator = torch.Generator().manual_seed(5)
        shapes = (2, base.in_features), (base.out_features, 2)
        self.parts = [torch.randn(one, generator=generator).to(self.weight) for one in shapes]

    def forward(self, states):
        down, up = self.parts
        return super().forward(states) + states @ down.T @ up.T


def value_weighted(model, inputs):
    with torch.no_grad(), tl.probe(model, importance="value-weighted", per_head=True) as recording:
        model(**inputs)
    return recording.per_head[0]


def test_an_adapters_part_of_the_output_projection_counts():
    """The same model with the adapter merged is the reference, the one without it the control."""
    inputs = case("LLaVA-1.5", ONE).inputs
    adapted, merged = (copy.deepcopy(case("LLaVA-1.5", ONE).model) for _ in range(2))
    for layer, same in zip(decoder_layers(adapted), decoder_layers(merged), strict=True):
        layer.self_attn.o_proj = Adapted(layer.self_attn.o_proj)
        down, up = layer.self_attn.o_proj.parts
        same.self_attn.o_proj.weight.data += up @ down
    expected = value_weighted(merged, inputs)
    plain = value_weighted(case("LLaVA-1.5", ONE).model, inputs)
    found = value_weighted(adapted, inputs)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (plain[0] - expected[0]).abs().max() > 1e-2 * expected[0].abs().max()


def test_the_output_projection_of_an_offloaded_model():
    accelerate = pytest.importorskip("accelerate")
    found = case("LLaVA-1.5", ONE)
    offloaded = copy.deepcopy(found.model)
    accelerate.cpu_offload(offloaded, execution_device="cpu")
    expected = value_weighted(found.model, found.inputs)
    assert torch.allclose(value_weighted(offloaded, found.inputs), expected, rtol=1e-5)


def test_attention_without_an_output_projection_is_refused():
    found = case("LLaVA-1.5", RAGGED)
    attention = found.model.get_decoder().layers[0].self_attn
    projection = attention.o_proj
    attention._modules["o_proj"] = torch.nn.Sequential(projection)
    try:
        with (
            tl.probe(found.model, importance="value-weighted"),
            pytest.raises(ProbeError, match=r"\A[^\n]*needs the output projection[^\n]*\Z"),
            torch.no_grad(),
        ):
            found.model(**found.inputs)
    finally:
        attention._modules["o_proj"] = projection


@EVERY_FAMILY
def test_gradient_rows_equal_autograd_through_eager_maps(name):
    """In a ragged batch, per head, in true float64; another token's gradient is the control."""
    found = case(name, RAGGED)
    with true_float64():
        with torch.inference_mode():
            plain = found.model(**found.inputs).logits
            with tl.probe(found.model, importance="gradient", per_head=True) as recording:
                probed = found.model(**found.inputs).logits
        assert torch.equal(plain, probed)
        assert not any(one.grad is not None for one in found.model.parameters())
        for row, inputs in enumerate(found.alone):
            visual = inputs["input_ids"][0] == found.model.config.image_token_id
            maps, gradients = attention_gradients(found.model, inputs)
            expected = (maps * gradients)[:, :, -1, visual].clamp(min=0)
            assert (recording.per_head[row] - expected).abs().max() < EXACT
            maps, gradients = attention_gradients(
                found.model, inputs, token=int(plain[row, -1].argmin())
            )
            other = (maps * gradients)[:, :, -1, visual].clamp(min=0)
            assert (recording.per_head[row] - other).abs().max() > SEEN
            assert (recording.importance[row] - expected.mean(1)).abs().max() < EXACT


@pytest.mark.parametrize("name", ["Qwen2-VL", "LLaVA-1.5", "Gemma3"])
def test_gradients_do_not_disturb_generation(name):
    found = case(name, RAGGED)
    image = found.model.config.image_token_id
    options = {"max_new_tokens": STEPS, "suppress_tokens": [image, 0]}
    plain = found.model.generate(**found.inputs, **options)
    with tl.probe(found.model, importance="gradient") as within:
        probed = found.model.generate(**found.inputs, **options)
    with tl.probe(found.model, importance="gradient") as forward, torch.no_grad():
        found.model(**found.inputs)
    assert torch.equal(plain, probed)
    for one, other in zip(within.importance, forward.importance, strict=True):
        assert (one - other).abs().max() < 1e-5


@pytest.mark.parametrize("queries", ["text", "generated", [-1]])
def test_what_takes_more_runs_is_of_the_last_prompt_token(queries):
    model = case("Qwen2-VL", RAGGED).model
    with (
        pytest.raises(ProbeError, match=r"\Aimportance 'gradient' [^\n]*queries='last'[^\n]*\Z"),
        tl.probe(model, importance="gradient", queries=queries),
    ):
        pass


def test_a_prompt_in_pieces_is_not_run_again():
    found = case("Qwen2-VL", ONE)
    with tl.probe(found.model, importance="gradient"), pytest.raises(ProbeError, match="in pieces"):
        found.model.generate(**found.inputs, max_new_tokens=2, prefill_chunk_size=4)
