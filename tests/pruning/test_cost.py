"""Costs counted from the configuration, against what torch counts on the real run."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, MistralConfig, Qwen2Config

import tokenlens as tl
from tests.support.builders import fake_inputs, tiny_qwen2_5_vl, tiny_qwen2_vl
from tests.support.engine_support import ONE, RAGGED, SCHEDULES, batch, model64, schedule, stage
from tokenlens.pruning.cost.decoder_cost import (
    comparison_macs,
    decoder_cost,
    decoder_macs,
    grouping_macs,
)
from tokenlens.schedule import Schedule

BYPASS = [
    stage(2, "after", 0.5, "bypass", merge=0.1),
    stage(4, "before", 0.3, "bypass", merge=0.1),
    stage(5, "before", 0.1),
]
PLANS = {
    **SCHEDULES,
    "random": schedule(stage(0, "after", 0.5), query="random", seed=0),
    "all rows": schedule(*BYPASS, query="all"),
    "raters": schedule(*BYPASS, query="raters"),
    "no rotary": schedule(*BYPASS, rotary=False),
    "freeze": schedule(
        stage(2, "after", 0.5, "freeze"), stage(4, "before", 0.3, "freeze"), stage(6, "before", 0.1)
    ),
    "freeze to the end": schedule(stage(1, "after", "none", "freeze")),
    "decay divided": schedule(*BYPASS, query="all", heads=2, decay="divide"),
}


def counted_macs(model, inputs):
    """MACs of the decoder as torch sees them: flops are counted two for each."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**inputs, use_cache=False, logits_to_keep=1)
    counts = {name: sum(values.values()) for name, values in counter.get_flop_counts().items()}
    name = type(model).__name__
    outside = counts[f"{name}.model.visual"] + counts[f"{name}.lm_head"]
    return (counts["Global"] - outside) / 2


@pytest.mark.parametrize("name", PLANS)
def test_a_pruned_prefill_costs_what_is_counted(name):
    model = tiny_qwen2_vl(layers=6, hidden=32, heads=4, kv_heads=2)
    model.set_attn_implementation({"text_config": "eager"})
    inputs = fake_inputs(model, (((9, 11),),))
    with tl.prune(model, PLANS[name]) as trace:
        macs = counted_macs(model, inputs)
    (said,) = trace.cost.total_macs - trace.cost.spared_macs
    assert said == pytest.approx(macs, rel=0.01)
    if name == "raters":
        assert said != pytest.approx(macs - 99 * 3 * 32, rel=1e-9), "raters are not free"
    macs = counted_macs(model, inputs)
    assert trace.cost.unpruned.total_macs[0] == pytest.approx(macs, rel=1e-9)
    assert said < macs


def test_another_family_and_full_multi_head_attention():
    model = tiny_qwen2_5_vl(layers=6, heads=4, kv_heads=4)
    plan = Schedule(
        schema=1,
        method="test",
        model={"architecture": type(model).__name__, "layers": 6},
        stages=BYPASS,
    )
    model.set_attn_implementation({"text_config": "eager"})
    inputs = fake_inputs(model, (((8, 10),),))
    with tl.prune(model, plan) as trace:
        macs = counted_macs(model, inputs)
    computed = trace.cost.total_macs - trace.cost.spared_macs
    assert computed[0] == pytest.approx(macs, rel=0.01)
    assert trace.cost.unpruned.total_macs[0] == pytest.approx(counted_macs(model, inputs), rel=1e-9)


def test_every_part_is_counted_on_its_own():
    model = model64().float()
    inputs = batch(model, ONE)
    length, rest, merged = inputs["input_ids"].shape[1], 12, 4
    plan = schedule(stage(1, "after", 0.4, "bypass", merge=0.3), stage(3, "before", 0.3))
    with torch.no_grad(), tl.prune(model, plan) as trace:
        model(**inputs)
    projections = length * 32 * (32 + 2 * 16)
    assert trace.cost.scoring_macs.tolist() == [2 * length * 32 + projections]
    assert trace.cost.merging_macs.tolist() == [2 * rest * merged * 32 + rest * 32]
    assert (trace.cost.unpruned.scoring_macs == 0).all()
    assert (trace.cost.unpruned.merging_macs == 0).all()


def test_samples_cost_the_same_whatever_their_batch():
    model = model64().float()
    plan = SCHEDULES["bypass three"]
    with torch.no_grad(), tl.prune(model, plan) as trace:
        model(**batch(model, RAGGED))
        together = trace.cost
        inputs = batch(model, RAGGED)
        for row, pixels in enumerate(inputs["pixel_values"].split([12, 30, 13])):
            keep = inputs["attention_mask"][row].bool()
            model(
                input_ids=inputs["input_ids"][row : row + 1, keep],
                attention_mask=inputs["attention_mask"][row : row + 1, keep],
                mm_token_type_ids=inputs["mm_token_type_ids"][row : row + 1, keep],
                pixel_values=pixels,
                image_grid_thw=inputs["image_grid_thw"][[[0], [1], [2, 3]][row]],
            )
            alone = trace.cost
            for name in ("prefill_macs", "scoring_macs", "merging_macs", "kv_bytes", "total_macs"):
                assert getattr(alone, name)[0] == getattr(together, name)[row]
                first, second = getattr(alone.unpruned, name), getattr(together.unpruned, name)
                assert first[0] == second[row]
                assert second.dtype == np.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cache_bytes_are_those_of_the_cache(dtype):
    model = model64().to(dtype)
    inputs = batch(model, ONE)
    cache = DynamicCache(config=model.config.get_text_config())
    with torch.no_grad(), tl.prune(model, SCHEDULES["bypass three"]) as trace:
        model(**inputs, past_key_values=cache)
    held = sum(part.nbytes for layer in cache.layers for part in (layer.keys, layer.values))
    assert trace.cost.kv_bytes.tolist() == [held]
    plain = DynamicCache(config=model.config.get_text_config())
    with torch.no_grad():
        model(**inputs, past_key_values=plain)
    held = sum(part.nbytes for layer in plain.layers for part in (layer.keys, layer.values))
    assert trace.cost.unpruned.kv_bytes.tolist() == [held]


def test_llava_7b_costs_what_is_published():
    """SwiftVLM's 4.29 T for 576 visual tokens, its formula and its LLaVA-1.5-7B."""
    config = Qwen2Config(
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
    )
    text = 576 + 64
    terms = 4 * text * 4096**2 + 2 * text**2 * 4096 + 3 * text * 4096 * 11008
    assert decoder_macs(config, [[text] * 32]).tolist() == [32 * terms]
    assert decoder_macs(config, [[text] * 32])[0] == pytest.approx(4.29e12, rel=0.05)


def test_grouped_queries_make_keys_cheaper():
    shared = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    full = Qwen2Config(**shared, num_attention_heads=8, num_key_value_heads=8)
    grouped = Qwen2Config(**shared, num_attention_heads=8, num_key_value_heads=2)
    gap = decoder_macs(full, [10, 10]) - decoder_macs(grouped, [10, 10])
    assert gap == 2 * 10 * 64 * 2 * 48
    assert comparison_macs(grouped, 1, 10) == 10 * 64
    wide = Qwen2Config(**shared, num_attention_heads=8, num_key_value_heads=2, head_dim=16)
    assert comparison_macs(wide, 1, 10) == 10 * 128


def test_nothing_merged_costs_nothing():
    assert grouping_macs(np.array([10, 10]), np.array([0, 2]), 64).tolist() == [0, 5 * 10 * 64]


def test_a_sliding_window_bounds_the_cache():
    config = MistralConfig(
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=8,
    )
    cost = decoder_cost(config, [[20, 20, 5]], element_size=2)
    assert cost.kv_bytes.tolist() == [(7 + 7 + 5) * 2 * 32 * 2]
    assert cost.unpruned is cost


def test_tokens_per_layer_are_those_of_the_schedule():
    model = model64().float()
    for plan in SCHEDULES.values():
        with torch.no_grad(), tl.prune(model, plan) as trace:
            model(**batch(model, RAGGED))
        expected = [plan.tokens_entering(n, 6) for n in (12, 30, 13)]
        assert trace.tokens_per_layer.tolist() == expected


def test_the_cost_is_counted_once_and_only_when_it_is_read(monkeypatch):
    counted = []
    monkeypatch.setattr(
        "tokenlens.pruning.cost.accounting.decoder_cost",
        lambda *args, **options: counted.append(1) or decoder_cost(*args, **options),
    )
    model = model64()
    with torch.no_grad(), tl.prune(model, SCHEDULES["bypass three"]) as trace:
        model(**batch(model, ONE))
    assert not counted
    assert trace.cost is trace.cost
    assert len(counted) == 2  # the pruned and the unpruned one
    assert trace.tokens_per_layer is trace.tokens_per_layer


def test_what_is_spared_is_part_of_what_is_counted():
    model = model64()
    with torch.no_grad(), tl.prune(model, SCHEDULES["bypass three"]) as trace:
        model(**batch(model, RAGGED))
    cost = trace.cost
    assert (cost.spared_macs > 0).all()
    assert (cost.spared_macs < cost.scoring_macs + cost.merging_macs).all()
    assert not cost.unpruned.spared_macs.any()
