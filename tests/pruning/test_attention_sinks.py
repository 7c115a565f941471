"""Attention whose softmax has more in it than tokens (GPT-OSS's sinks) is refused, not misread."""

import pytest
import torch
from transformers import GptOssConfig, LlavaConfig, LlavaForConditionalGeneration

import tokenlens as tl
from tests.support import families
from tests.support.engine_support import stage
from tests.support.families import ONE, case
from tests.support.family_models import HEADED, IMAGE, LAYERS, PATCH, SIDE, drawn, vision_tower
from tests.support.family_plans import plan_for
from tokenlens.errors import ProbeError, PruningError


@pytest.fixture
def found(monkeypatch):
    """One prompt of a LLaVA shell round GPT-OSS's decoder."""
    text = GptOssConfig(
        **HEADED,
        num_local_experts=2,
        num_experts_per_tok=1,
        sliding_window=4096,
        layer_types=["full_attention"] * LAYERS,
    )
    config = LlavaConfig(
        vision_config=vision_tower("clip_vision_model", SIDE * PATCH),
        text_config=text,
        image_token_index=IMAGE,
    )
    model = drawn(LlavaForConditionalGeneration(config)).float()
    model.set_attn_implementation("eager")
    monkeypatch.setattr(families, "model_of", lambda name: model)
    drawn_case = case("LLaVA-1.5", ONE)
    drawn_case.inputs["pixel_values"] = drawn_case.inputs["pixel_values"].float()
    return drawn_case


@pytest.mark.parametrize("when", ["before", "after"])
def test_rows_with_sinks_are_no_scores(found, when):
    plan = plan_for(found.model, [stage(2, when, 5)])
    with (
        tl.prune(found.model, plan),
        torch.no_grad(),
        pytest.raises(PruningError, match="attention with s_aux cannot be scored"),
    ):
        found.model(**found.inputs)


def test_a_scorer_that_reads_no_rows_goes_on(found):
    plan = plan_for(found.model, [stage(2, "after", 5)], query="uniform")
    with tl.prune(found.model, plan) as trace, torch.no_grad():
        found.model(**found.inputs)
    assert trace.tokens_per_layer[0].tolist() == [25] * 2 + [5] * 4


def test_the_probe_refuses_them_too(found):
    with (
        tl.probe(found.model),
        torch.no_grad(),
        pytest.raises(ProbeError, match="attention with s_aux cannot be recorded"),
    ):
        found.model(**found.inputs)
