"""Every importance beside a plain writing of its formula, on all families."""

import pytest
import torch

import tokenlens as tl
from tests.references.importances import projected_norms
from tests.support.comparing import eager_maps, eager_steps
from tests.support.families import FAMILIES, RAGGED, case
from tests.support.true_float64 import true_float64
from tokenlens.errors import ProbeError
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
