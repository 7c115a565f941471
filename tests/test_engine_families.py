"""The engine holds no family code: families whose masks, positions or inputs are unlike Qwen2-VL's.

Each is compared with itself at full length, where hooks hide from every layer the keys of what was
pruned before it. Selections are taken from the trace; `test_engine_oracle` checks those.
"""

from contextlib import contextmanager

import pytest
import torch
from transformers import (
    DynamicCache,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GemmaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    Phi3Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

import tokenlens as tl
from tests.engine_support import stage
from tokenlens.errors import PruningError
from tokenlens.schedule import Schedule

LAYERS, IMAGE, STEPS = 6, 5, 4
TEXT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GEMMA = {**TEXT, "head_dim": 8}
TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
CLIP = {**TOWER, "model_type": "clip_vision_model"}
SIGLIP = {**TOWER, "model_type": "siglip_vision_model"}


def llava(text):
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=CLIP, text_config=text, image_token_index=IMAGE)
    )


def gemma3():
    """Sliding and full layers, rotary embeddings by layer type, pictures that see themselves."""
    text = Gemma3TextConfig(
        **GEMMA,
        sliding_window=9,
        query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "full_attention"] * 3,
    )
    return Gemma3ForConditionalGeneration(
        Gemma3Config(
            vision_config=SIGLIP, text_config=text, image_token_index=IMAGE, mm_tokens_per_image=16
        )
    )


def paligemma():
    """A prompt that sees itself whole; positions from 1."""
    return PaliGemmaForConditionalGeneration(
        PaliGemmaConfig(
            vision_config=SIGLIP,
            text_config=GemmaConfig(**GEMMA),
            image_token_index=IMAGE,
            projection_dim=32,
        )
    )


def qwen3_vl():
    """Visual features added to the outputs of the first two layers."""
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    return Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            vision_config={
                "depth": 3,
                "hidden_size": 32,
                "out_hidden_size": 32,
                "num_heads": 2,
                "intermediate_size": 32,
                "patch_size": 4,
                "spatial_merge_size": 1,
                "deepstack_visual_indexes": [0, 1],
                "num_position_embeddings": 16,
            },
            text_config={**GEMMA, "rope_parameters": rope},
            image_token_id=IMAGE,
            video_token_id=6,
            vision_start_token_id=7,
            vision_end_token_id=8,
        )
    )


FAMILIES = {
    "gemma3": gemma3,
    "paligemma": paligemma,
    "qwen3-vl": qwen3_vl,
    "sliding llava": lambda: llava(MistralConfig(**TEXT, sliding_window=9)),
    "fused llava": lambda: llava(Phi3Config(**TEXT)),
}
PLANS = {
    "early": ([stage(1, "after", 0.5), stage(3, "before", 0.3), stage(5, "after", 3)], {}),
    "late": ([stage(5, "after", 0.3)], {"query": "all"}),
    "random": ([stage(0, "after", 0.5), stage(4, "before", 0.3)], {"query": "random", "seed": 1}),
}


@pytest.fixture(params=FAMILIES)
def family(request):
    torch.manual_seed(1)
    model = FAMILIES[request.param]().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1.3 / parameter[0].numel() ** 0.5)
    if request.param != "qwen3-vl":
        noise = torch.randn(3, 64, 32, dtype=torch.float64)  # instead of a picture's features
        model.get_input_embeddings().register_forward_hook(
            lambda _, __, output: (
                output + noise[:, : output.shape[1]] if output.shape[1] > 1 else output
            )
        )
    return request.param, model, inputs_of(request.param)


def inputs_of(name):
    """A ragged batch of three, the last sample with two pictures."""
    rows = [
        [10, 11, 7, *[IMAGE] * 12, 8, 12, 13, 14, 15, 16],
        [10, 7, *[IMAGE] * 20, 8, 17, 18, 19, 20],
        [10, 11, 12, 7, *[IMAGE] * 6, 8, 11, 7, *[IMAGE] * 9, 8, 21, 22],
    ]
    length = max(map(len, rows))
    ids = torch.tensor([[0] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    inputs = {"input_ids": ids, "attention_mask": mask}
    if name == "gemma3":
        inputs["token_type_ids"] = (ids == IMAGE).int()
    if name == "paligemma":
        inputs["token_type_ids"] = torch.zeros_like(ids)
    if name == "qwen3-vl":
        inputs["mm_token_type_ids"] = (ids == IMAGE).int()
        inputs["image_grid_thw"] = torch.tensor([[1, 3, 4], [1, 4, 5], [1, 2, 3], [1, 3, 3]])
        inputs["pixel_values"] = torch.randn(47, 96, dtype=torch.float64)
    return inputs


def plan_for(model, stages, scorer=None):
    return Schedule(
        schema=1,
        method="test",
        model={"architecture": type(model).__name__, "layers": LAYERS},
        scorer=scorer or {},
        stages=stages,
    )


@torch.no_grad()
def run(name, model, inputs, cache):
    """Last logits of the prefill and after each of a few tokens, [steps, batch, vocabulary]."""
    found, mask = [model(**inputs, past_key_values=cache).logits[:, -1]], inputs["attention_mask"]
    for step in range(STEPS):
        positions = mask.sum(1, keepdim=True) + (name == "paligemma")
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        if name == "qwen3-vl":
            positions = (positions + model.model.rope_deltas).expand(3, -1, -1)
        output = model(
            input_ids=torch.tensor([[11], [12], [13]]) + step,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
        )
        found.append(output.logits[:, -1])
    return torch.stack(found)


@contextmanager
def hidden_keys(model, alive):
    """Hide from each layer, at full length, the prompt's keys that are not `alive` there."""

    def hide(number, module, args, kwargs):
        mask, queries = kwargs["attention_mask"], args[0].shape[1]
        cache = kwargs["past_key_values"]
        keys = cache.get_seq_length(number) + queries
        if mask is None:
            row = torch.arange(keys - queries, keys)[:, None]
            mask = torch.arange(keys) <= (row if module.self_attn.is_causal else keys)
            mask = mask.expand(queries, -1)[None, None]
        seen = torch.nn.functional.pad(alive[number], (0, keys - alive[number].shape[1]), value=1)
        return args, {**kwargs, "attention_mask": mask & seen[:, None, None, -mask.shape[-1] :]}

    handles = [
        layer.register_forward_pre_hook(
            lambda module, args, kwargs, number=number: hide(number, module, args, kwargs),
            with_kwargs=True,
        )
        for number, layer in enumerate(model.get_decoder().layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def alive_in(inputs, plan, selected):
    """For each layer which tokens of the prompt can still be seen: bool [batch, length]."""
    text = inputs["attention_mask"].bool() & (inputs["input_ids"] != IMAGE)
    now, layers = inputs["attention_mask"].bool(), []
    for layer in range(1, LAYERS + 1):
        for chosen, at in zip(selected, plan.stages, strict=True):
            if at.first_layer == layer:
                now = text.clone()
                for row, places in enumerate(chosen):
                    now[row, places] = True
        layers.append(now.clone())
    return layers


@pytest.mark.parametrize("name", PLANS)
def test_it_equals_the_same_model_with_hidden_keys(family, name):
    kind, model, inputs = family
    plan = plan_for(model, *PLANS[name])
    with tl.prune(model, plan) as trace:
        found = run(kind, model, inputs, DynamicCache(config=model.config.get_text_config()))
    selected = [step.selected for step in trace.stages]
    with hidden_keys(model, alive_in(inputs, plan, selected)):
        expected = run(kind, model, inputs, DynamicCache())
    assert torch.isfinite(found).all()
    assert (found - expected).abs().max() < 1e-9
    others = [
        [
            torch.tensor([place for place in places.tolist() if place not in kept.tolist()])[
                : len(kept)
            ].long()
            for places, kept in zip(at.candidates, at.selected, strict=True)
        ]
        for at in trace.stages
    ]
    with hidden_keys(model, alive_in(inputs, plan, others)):
        control = run(kind, model, inputs, DynamicCache())
    assert (found - control).abs().max() > 1e-3, "the control is not seen"


def test_keep_everything_is_bit_identical(family):
    kind, model, inputs = family
    plan = plan_for(model, [stage(3, "after", 1.0, "bypass", merge=0.2), stage(5, "before", 1.0)])
    config = model.config.get_text_config()
    expected = run(kind, model, inputs, DynamicCache(config=config))
    with tl.prune(model, plan):
        assert torch.equal(run(kind, model, inputs, DynamicCache(config=config)), expected)


def test_bypass_and_renumbering_generate(family):
    _, model, inputs = family
    plan = plan_for(
        model,
        [stage(2, "after", 0.5, "bypass", merge=0.2), stage(4, "before", 3, positions="renumber")],
    )
    model.generation_config.eos_token_id = None
    with tl.prune(model, plan) as trace:
        model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert trace.tokens_per_layer[:, -1].tolist() == [3, 3, 3]


def test_merging_before_the_last_deepstack_layer_is_refused():
    model, inputs = qwen3_vl().double().eval(), inputs_of("qwen3-vl")
    for stages in (
        [stage(1, "after", 0.5, "bypass", merge=0.2), stage(4, "before", 3)],
        [stage(2, "before", 0.5, "merge", merge=0.2)],
    ):
        with tl.prune(model, plan_for(model, stages)), pytest.raises(PruningError, match="layer 2"):
            model(**inputs)
    with tl.prune(model, plan_for(model, [stage(2, "after", 0.5, "merge", merge=0.2)])) as trace:
        model(**inputs)
    assert len(trace.stages) == 1


def test_a_sliding_window_forgets_what_it_has_left_behind():
    """Few keys stay in the cache; a crop that would need the others is refused."""
    model = llava(MistralConfig(**TEXT, sliding_window=9)).double().eval()
    inputs = {name: value[:1] for name, value in inputs_of("sliding llava").items()}
    plan = plan_for(model, [stage(2, "after", 0.5)])
    cache = DynamicCache(config=model.config.get_text_config())
    with torch.no_grad(), tl.prune(model, plan) as trace:
        model(**inputs, past_key_values=cache)
        assert [layer.keys.shape[2] for layer in cache.layers] == [8] * LAYERS
        assert trace.cost.kv_bytes.tolist() == [8 * LAYERS * 2 * 16 * 8]
        with pytest.raises(PruningError, match="keys of the prompt"):
            cache.crop(-1)


def test_prompt_lookup_crops_a_sliding_window():
    """Rejected candidates are taken back, past what the window has left behind."""
    model = llava(MistralConfig(**TEXT, sliding_window=9)).double().eval()
    model.generation_config.eos_token_id = None
    ids = torch.tensor([[10, *[IMAGE] * 12, 11, 12, 13, 14, 15, 16, 17, 18, 11, 12]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with tl.prune(model, plan_for(model, [stage(2, "after", 0.5)])):
        expected = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        found = model.generate(
            **inputs, max_new_tokens=8, do_sample=False, prompt_lookup_num_tokens=4
        )
    assert torch.equal(found, expected)
