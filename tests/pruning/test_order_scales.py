"""A decoder that scales queries by their order in a layer's input (Llama 4's) is refused there."""

import pytest
import torch
from transformers import Llama4TextConfig, LlavaConfig, LlavaForConditionalGeneration

import tokenlens as tl
from tests.support import families
from tests.support.comparing import compare
from tests.support.families import ONE, RAGGED, case
from tests.support.family_models import HEADED, IMAGE, PATCH, SIDE, drawn, vision_tower
from tests.support.family_plans import named_plans, plan_for
from tokenlens.errors import PruningError


@pytest.fixture
def built(monkeypatch):
    """Prompts of a LLaVA shell round Llama 4's decoder, three of whose layers have no rotary."""

    def build(sizes, **settings):
        text = Llama4TextConfig(
            **HEADED,
            num_local_experts=2,
            intermediate_size_mlp=64,
            attention_chunk_size=12,
            no_rope_layers=[1, 0] * 3,
            **settings,
        )
        vision = vision_tower("clip_vision_model", SIDE * PATCH)
        config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE)
        model = drawn(LlavaForConditionalGeneration(config))
        monkeypatch.setattr(families, "model_of", lambda name: model)
        return case("LLaVA-1.5", sizes)

    return build


@pytest.mark.parametrize("plan_name", ["drop three", "bypass three", "freeze three"])
@pytest.mark.parametrize("sizes", [ONE, RAGGED], ids=["batch 1", "ragged batch 3"])
def test_shorter_prompts_are_exact(built, sizes, plan_name):
    found = built(sizes)
    result = compare(found, plan_for(found.model, named_plans()[plan_name]), steps=3)
    assert result.choices == ()
    assert result.logits < 1e-10


def test_longer_prompts_are_refused(built):
    found = built(ONE, floor_scale=30)
    plan = plan_for(found.model, named_plans()["drop early"])
    with (
        tl.prune(found.model, plan),
        torch.no_grad(),
        pytest.raises(PruningError, match="scales queries by their order"),
    ):
        found.model(**found.inputs)


def test_without_scales_any_length_goes(built):
    found = built(ONE, floor_scale=30, attn_temperature_tuning=False)
    plan = plan_for(found.model, named_plans()["drop early"])
    assert compare(found, plan, steps=3).logits < 1e-10
