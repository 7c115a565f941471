"""What only some families do, and how the engine answers it."""

import pytest
import torch
from transformers import DynamicCache

import tokenlens as tl
from tests.support.comparing import compare, go_on, tokens_for
from tests.support.engine_support import stage
from tests.support.families import FAMILIES, ONE, RAGGED, case
from tests.support.family_models import IMAGE, LAYERS, WINDOW, random_model
from tests.support.family_plans import named_plans, plan_for
from tokenlens.errors import PruningError

SLIDING = "LLaVA + sliding Mistral"
EVERY_FAMILY = pytest.mark.parametrize("name", FAMILIES)


def refused(match):
    """A `PruningError` of one line."""
    return pytest.raises(PruningError, match=rf"\A[^\n]*{match}[^\n]*\Z")


def test_merging_before_the_last_deepstack_layer_is_refused():
    found = case("Qwen3-VL", RAGGED)
    for stages in (
        [stage(1, "after", 0.5, "bypass", merge=0.2), stage(4, "before", 3)],
        [stage(2, "before", 0.5, "merge", merge=0.2)],
    ):
        with tl.prune(found.model, plan_for(found.model, stages)), refused("layer 2"):
            found.model(**found.inputs)


def test_a_sliding_window_forgets_what_it_has_left_behind():
    """Few keys stay in the cache; a crop that would need the others is refused."""
    found = case(SLIDING, ONE)
    cache = DynamicCache(config=found.model.config.get_text_config())
    plan = plan_for(found.model, [stage(2, "after", 0.5)])
    with torch.no_grad(), tl.prune(found.model, plan) as trace:
        found.model(**found.inputs, past_key_values=cache)
        assert [layer.keys.shape[2] for layer in cache.layers] == [WINDOW - 1] * LAYERS
        assert trace.cost.kv_bytes.tolist() == [(WINDOW - 1) * LAYERS * 2 * 16 * 8]
        with refused("a sliding window has left keys behind"):
            cache.crop(-1)
        go_on(found.model, found.inputs["attention_mask"], tokens_for(found, 2 * WINDOW), cache)
        assert [layer.keys.shape[2] for layer in cache.layers] == [WINDOW - 1] * LAYERS
        with refused("a sliding window has left keys behind"):
            cache.crop(-1)


def test_a_long_answer_in_a_sliding_window():
    """Until every key of the prompt, and some of the answer's, are out of sight."""
    found = case(SLIDING, RAGGED)
    plan = plan_for(found.model, named_plans()["bypass three"])
    for chunk in (1, 5):
        long = compare(found, plan, steps=2 * WINDOW, chunk=chunk)
        assert long.choices == ()
        assert long.logits < 1e-10


def test_prompt_lookup_crops_a_sliding_window():
    """Rejected candidates are taken back, past what the window has left behind."""
    model = random_model(SLIDING)
    ids = torch.tensor([[10, *[IMAGE] * 12, 11, 12, 13, 14, 15, 16, 17, 18, 11, 12]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with tl.prune(model, plan_for(model, [stage(2, "after", 0.5)])):
        expected = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        found = model.generate(
            **inputs, max_new_tokens=8, do_sample=False, prompt_lookup_num_tokens=4
        )
    assert torch.equal(found, expected)


@EVERY_FAMILY
def test_what_would_be_silently_wrong_is_refused(name):
    """Each of `refusals` on every family; `test_engine_refusals` has all their forms."""
    found = case(name, ONE)
    model, inputs, ids = found.model, found.inputs, found.inputs["input_ids"]
    plan = plan_for(model, named_plans(found.family.merges_from)["bypass three"])
    token = {"input_ids": ids[:, -1:], "attention_mask": torch.ones(1, ids.shape[1] + 1).long()}
    with torch.no_grad(), tl.prune(model, plan):
        for options, message in (
            ({"labels": ids}, "`labels` do not match"),
            ({"logits_to_keep": torch.tensor([3])}, "`logits_to_keep` as a tensor"),
            ({"cu_seq_lens_q": torch.tensor([0, 3])}, "packed inputs"),
            ({"attention_mask": inputs["attention_mask"].flip(1) * 0}, "padded on the right"),
        ):
            with refused(message):
                model(**{**inputs, **options})
        packed = {name: value for name, value in inputs.items() if name != "attention_mask"}
        places = torch.arange(ids.shape[1]) % 10
        places = places.expand(4, 1, -1) if hasattr(model.model, "rope_deltas") else places[None]
        with refused("packed inputs"):
            model(**packed, position_ids=places)
        for options, message in (
            ({"cache_implementation": "static"}, "static or compileable"),
            ({"prefill_chunk_size": 8}, "prefill_chunk_size"),
            ({"use_cache": False}, "leave `use_cache` on"),
        ):
            with refused(message):
                model.generate(**inputs, max_new_tokens=2, **options)
        cache = model(**inputs, use_cache=True).past_key_values
        with refused("visual tokens arrived after the cache was filled"):
            model(**inputs, past_key_values=cache)
        cache = model(**inputs, use_cache=True).past_key_values
    with torch.no_grad(), refused("its context was left"):
        model(**token, past_key_values=cache)


@EVERY_FAMILY
def test_layers_without_self_attn_are_refused(name):
    model = random_model(name)
    layer = model.get_decoder().layers[3]
    layer.attention = layer.self_attn
    del layer.self_attn
    plan = plan_for(model, [stage(2, "after", 0.5)])
    with refused("decoder layer 4 .* has no `self_attn`"):
        tl.prune(model, plan).__enter__()
