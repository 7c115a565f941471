"""Ways to generate that call the model more often than it has tokens to write."""

import copy

import pytest
import torch
from transformers import DynamicCache

import tokenlens as tl
from tests.support.builders import VOCABULARY
from tests.support.engine_support import ONE, SCHEDULES, batch, model64, schedule, stage
from tests.support.families import case
from tokenlens.errors import ProbeError, PruningError

PLANS = {
    "last row": SCHEDULES["bypass three"],
    "text rows": schedule(stage(2, "after", 0.4), query="text"),
    "no rows": schedule(stage(0, "after", 0.4), query="diverse"),
}


@pytest.fixture
def model():
    model = model64().float()
    model.generation_config.suppress_tokens = [VOCABULARY["<|image_pad|>"]]
    return model


def refused(match):
    return pytest.raises(PruningError, match=rf"\A[^\n]*{match}[^\n]*\Z")


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("drafts", ["its own", "another's"])
def test_assisted_answers_are_those_without_an_assistant(model, name, drafts):
    inputs, plan = batch(model, ONE), PLANS[name]
    draft = model if drafts == "its own" else copy.deepcopy(model)
    with tl.prune(model, plan) as trace:
        expected = model.generate(**inputs, max_new_tokens=8)
        selected = [found.selected[0].tolist() for found in trace.stages]
        found = model.generate(**inputs, max_new_tokens=8, assistant_model=draft)
        assert [found.selected[0].tolist() for found in trace.stages] == selected
    assert torch.equal(found, expected)
    with torch.no_grad():
        plain = model.generate(**inputs, max_new_tokens=8)
    assert not torch.equal(plain, expected), "pruning changes nothing"


def test_drafts_of_a_model_whose_tower_is_read_are_refused(model):
    inputs, plan = batch(model, ONE), schedule(stage(0, "after", 0.4), query="vision")
    with tl.prune(model, plan):
        expected = model.generate(**inputs, max_new_tokens=4)
        with refused("a draft model is shown no pictures"):
            model.generate(**inputs, max_new_tokens=4, assistant_model=model)
        draft = model64().float()
        found = model.generate(**inputs, max_new_tokens=4, assistant_model=draft)
        assert torch.equal(found, expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PLANS)
def test_train_mode_with_checkpointing_has_no_cache_to_decode_from(model, name):
    inputs = batch(model, ONE)
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with tl.prune(model, PLANS[name]):
        with refused("in train mode with gradient checkpointing"):
            model.generate(**inputs, max_new_tokens=3)
        with refused("in train mode with gradient checkpointing"):
            model(**inputs, past_key_values=DynamicCache(config=model.config.text_config))
        model(**inputs, use_cache=False)
        model.eval()
        model.generate(**inputs, max_new_tokens=3)


def test_guidance_is_refused():
    found = case("LLaVA-1.5", ((0,),))
    plan = tl.Schedule.preset("fastv", found.model, budget="50%")
    with tl.prune(found.model, plan), refused("`guidance_scale` runs the model on a second prompt"):
        found.model.generate(**found.inputs, max_new_tokens=3, guidance_scale=1.5)


def test_a_probe_does_not_record_rows_of_pruned_tokens(model):
    """Beside a longer text alone, the rest of a batch is moved though the width stays."""
    inputs = batch(model, ((), ((2, 3),)))
    extra = torch.full((2, 12), 11)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], extra], dim=1)
    for name in ("attention_mask", "mm_token_type_ids"):
        inputs[name] = torch.cat([inputs[name], extra.clamp(max=1) * (name[0] == "a")], dim=1)
    with tl.probe(model) as plain, torch.no_grad():
        model(**inputs)
    for plan in (
        schedule(stage(1, "after", 0.5)),
        schedule(stage(3, "before", 0.5)),
        schedule(stage(3, "before", 1.0)),
    ):
        with tl.prune(model, plan), tl.probe(model) as recording, torch.no_grad():
            model(**inputs)
        if plan.stages[0].keep == 1.0:
            assert (recording.importance[1] - plain.importance[1]).abs().max() < 1e-6
        else:
            with pytest.raises(ProbeError, match="the layers run on pruned tokens"):
                _ = recording.importance
    with tl.probe(model) as again, torch.no_grad():
        model(**inputs)
    assert torch.equal(again.importance[1], plain.importance[1])
