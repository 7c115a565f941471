"""Decoders whose layers scale queries by their positions in the prompt, as Ministral 3's do."""

from typing import Any

import pytest
from transformers import Ministral3Config, Mistral3Config, Mistral3ForConditionalGeneration

import tokenlens as tl
from tests.support import families
from tests.support.comparing import compare
from tests.support.families import FAMILIES, ONE, TWO_PICTURES, case
from tests.support.family_models import HEADED, IMAGE, drawn, vision_tower
from tests.support.family_plans import named_plans, plan_for
from tokenlens.errors import PruningError

ROPE: dict[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 1e3,
    "factor": 4.0,
    "original_max_position_embeddings": 8,  # shorter than a picture, so that scales differ
    "llama_4_scaling_beta": 0.5,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}


@pytest.fixture
def found(monkeypatch, request):
    """One prompt of a Mistral3 with Ministral 3's decoder."""
    config = Mistral3Config(
        vision_config=vision_tower("pixtral", 64),
        text_config=Ministral3Config(**HEADED, rope_parameters=ROPE),
        image_token_index=IMAGE,
    )
    model = drawn(Mistral3ForConditionalGeneration(config))
    monkeypatch.setattr(families, "model_of", lambda name: model)
    monkeypatch.setitem(FAMILIES, "Ministral3", FAMILIES["Mistral3"])
    return case("Ministral3", request.param)


@pytest.mark.parametrize("found", [ONE, TWO_PICTURES], indirect=True)
@pytest.mark.parametrize(
    "plan_name", ["drop three", "merge three", "bypass three", "freeze three", "recycle three"]
)
def test_queries_keep_the_scale_of_their_place(found, plan_name):
    """Stages before a layer and frozen tokens run a layer's own code: it needs their places too."""
    result = compare(found, plan_for(found.model, named_plans()[plan_name]), steps=3)
    assert result.choices == ()
    assert result.logits < 1e-10


@pytest.mark.parametrize("found", [ONE], indirect=True)
def test_flash_attention_would_take_gaps_for_ends(found, monkeypatch):
    config = found.model.config.get_text_config()
    monkeypatch.setattr(config, "_attn_implementation_internal", "flash_attention_2")
    monkeypatch.setattr(config, "sliding_window", None, raising=False)
    plan = plan_for(found.model, named_plans()["drop early"])
    with pytest.raises(PruningError, match=r"read `position_ids`.*attn_implementation='sdpa'"):
        tl.prune(found.model, plan).__enter__()
