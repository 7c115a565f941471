"""What a pruned run really does: shorter layers, a smaller cache, an honest trace."""

import copy

import pytest
import torch
from transformers import DynamicCache

import tokenlens as tl
from tests.support.builders import fake_inputs
from tests.support.engine_support import (
    LAYERS,
    ONE,
    RAGGED,
    SCHEDULES,
    batch,
    model64,
    run,
    schedule,
    stage,
    tokens_for,
)
from tests.support.families import RAGGED as PICTURES
from tests.support.families import case
from tests.support.family_plans import plan_for
from tokenlens.errors import PruningError

PLAN = SCHEDULES["bypass three"]


@pytest.fixture(scope="module")
def model():
    return model64().float()


def widths_seen(model, inputs, plan=None):
    """Width of what each layer's MLP computes in one prefill, and the cache after it."""
    seen = []
    handles = [
        layer.mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
        for layer in model.model.language_model.layers
    ]
    cache = DynamicCache(config=model.config.get_text_config())
    with torch.no_grad():
        if plan is None:
            model(**inputs, past_key_values=cache)
        else:
            with tl.prune(model, plan):
                model(**inputs, past_key_values=cache)
    for handle in handles:
        handle.remove()
    return seen, cache


@pytest.mark.parametrize("name", SCHEDULES)
def test_layers_run_on_fewer_tokens_and_the_cache_holds_fewer_keys(model, name):
    inputs, plan = batch(model, ONE), SCHEDULES[name]
    length, visual = inputs["input_ids"].shape[1], 20
    expected = [length - visual + n for n in plan.tokens_entering(visual, LAYERS)]
    seen, cache = widths_seen(model, inputs, plan)
    assert seen == expected
    assert min(seen) < length
    assert [layer.keys.shape[2] for layer in cache.layers] == expected
    assert [layer.values.shape[2] for layer in cache.layers] == expected
    _, plain = widths_seen(model, inputs)
    assert plain.layers[-1].keys.shape[2] == length

    def stored(cache):
        return sum(
            part.untyped_storage().nbytes()
            for layer in cache.layers
            for part in (layer.keys, layer.values)
        )

    assert stored(cache) * length * LAYERS == stored(plain) * sum(expected)
    assert cache.get_seq_length() == length


def test_padding_leaves_with_the_first_cut(model):
    """A ragged batch is as wide as its longest sample, not as the padded input."""
    inputs = batch(model, RAGGED)
    text = inputs["attention_mask"].sum(1) - torch.tensor([12, 30, 13])
    seen, _ = widths_seen(model, inputs, PLAN)
    entering = torch.tensor([PLAN.tokens_entering(n, LAYERS) for n in (12, 30, 13)])
    assert seen[0] == inputs["input_ids"].shape[1]
    assert seen[1:] == (text[:, None] + entering).max(0).values[1:].tolist()


def test_without_padding_or_fillers_there_is_no_mask(model):
    """The fast path of SDPA: None stays None."""
    inputs, masks = batch(model, ONE), []
    layers = model.model.language_model.layers
    with tl.prune(model, PLAN):
        handles = [
            layer.self_attn.register_forward_pre_hook(
                lambda _, __, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True
            )
            for layer in layers
        ]
        run(model, inputs, tokens_for(inputs, 2))
        for handle in handles:
            handle.remove()
    assert len(masks) == 3 * LAYERS + 2, "every layer, and two that were scored first"
    assert all(mask is None for mask in masks)


def test_fillers_without_padding(model):
    """Inputs of one length whose visual tokens differ: fillers, though the model made no mask."""
    inputs = fake_inputs(model, (((2, 3),), ((4, 4),)), text=[14, 4], seed=3)
    assert inputs["attention_mask"].all()
    plan = schedule(stage(2, "after", 0.5), stage(4, "before", 0.25))
    tokens = tokens_for(inputs, 3)
    with tl.prune(model, plan) as trace:
        first, later, _ = run(model, inputs, tokens)
        together = [found.selected for found in trace.stages]
        for row, grid in enumerate((((2, 3),), ((4, 4),))):
            alone = {
                "input_ids": inputs["input_ids"][row : row + 1],
                "attention_mask": inputs["attention_mask"][row : row + 1],
                "mm_token_type_ids": inputs["mm_token_type_ids"][row : row + 1],
                "image_grid_thw": inputs["image_grid_thw"][row : row + 1],
                "pixel_values": inputs["pixel_values"].split([6, 16])[row],
            }
            assert alone["pixel_values"].shape[0] == grid[0][0] * grid[0][1]
            single, after, _ = run(model, alone, tokens[row : row + 1])
            assert [found.selected[0].tolist() for found in trace.stages] == [
                stage_selected[row].tolist() for stage_selected in together
            ]
            assert torch.allclose(single[0], first[row], atol=1e-4)
            assert torch.allclose(after[0], later[row], atol=1e-4)


def test_the_trace_is_of_the_latest_prefill(model):
    with torch.no_grad(), tl.prune(model, PLAN) as trace:
        model(**batch(model, RAGGED))
        assert trace.tokens_per_layer.shape == (3, LAYERS)
        model(**batch(model, ONE))
        assert trace.tokens_per_layer.shape == (1, LAYERS)
        assert trace.tokens_per_layer.dtype == torch.int64
        assert [len(found.selected) for found in trace.stages] == [1, 1, 1]
    assert trace.stages[0].selected[0].dtype == torch.int64
    assert trace.tokens_per_layer[0].tolist() == PLAN.tokens_entering(20, LAYERS)


def test_prompts_without_pictures(model):
    """Text alone runs as it is; in a batch it goes along."""
    text = {"input_ids": torch.tensor([[11, 12, 13, 14]]), "attention_mask": torch.ones(1, 4)}
    with torch.no_grad():
        expected = model(**text).logits
        with tl.prune(model, PLAN) as trace:
            assert torch.equal(model(**text).logits, expected)
            assert [found.selected[0].tolist() for found in trace.stages] == [[], [], []]
            assert trace.tokens_per_layer.tolist() == [[0] * LAYERS]
    inputs = fake_inputs(model, ((), ((3, 4),)), text=[6, 6], seed=2)
    alone = fake_inputs(model, ((),), text=[6], seed=2)
    with torch.no_grad(), tl.prune(model, PLAN) as trace:
        together, later, _ = run(model, inputs, tokens_for(inputs, 2))
        assert [len(found.selected[0]) for found in trace.stages] == [0, 0, 0]
        assert [len(found.selected[1]) for found in trace.stages] == [6, 3, 4]
    assert torch.isfinite(later).all()
    positions = torch.arange(alone["input_ids"].shape[1]).expand(3, 1, -1)
    with torch.no_grad():
        single = model(input_ids=alone["input_ids"], position_ids=positions).logits[0, -1]
    assert torch.allclose(together[0], single, atol=1e-4)


def test_a_bare_forward_pass_needs_no_mask_and_no_cache(model):
    inputs = batch(model, ONE)
    with torch.no_grad(), tl.prune(model, PLAN):
        expected = model(**inputs).logits[:, -1]
        del inputs["attention_mask"]
        assert torch.equal(model(**inputs, use_cache=False).logits[:, -1], expected)
        output = model(**inputs, use_cache=True)
        assert output.past_key_values.get_seq_length() == inputs["input_ids"].shape[1]


def test_a_vlm_and_its_model_are_pruned_alike(model):
    inputs = batch(model)
    with torch.no_grad(), tl.prune(model, PLAN):
        expected = model(**inputs).logits
    with torch.no_grad(), tl.prune(tl.VLM.wrap(model), PLAN):
        assert torch.equal(model(**inputs).logits, expected)


def test_random_is_seeded_and_knows_no_batch(model):
    def selected(seed, grids, row):
        plan = schedule(stage(0, "after", 0.5), stage(3, "before", 0.2), query="random", seed=seed)
        inputs = batch(model, grids)
        with torch.no_grad(), tl.prune(model, plan) as trace:
            model(**inputs)
        assert trace.cost.scoring_macs.tolist() == [0.0] * len(grids)
        padding = int((inputs["attention_mask"][row] == 0).sum())
        return [(found.selected[row] - padding).tolist() for found in trace.stages]

    assert selected(1, RAGGED, 0) == selected(1, RAGGED, 0)
    assert selected(1, RAGGED, 0) == selected(1, RAGGED[:1], 0)
    assert selected(1, RAGGED, 0) != selected(2, RAGGED, 0)
    first, second = selected(1, RAGGED, 1)
    assert len(first) == 15
    assert len(second) == 6
    assert set(second) < set(first)


def test_a_stage_at_layer_zero_shortens_every_layer(model):
    plan = schedule(stage(0, "after", 0.5), query="random", seed=1)
    seen, _ = widths_seen(model, batch(model, ONE), plan)
    length = batch(model, ONE)["input_ids"].shape[1]
    assert seen == [length - 10] * LAYERS


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
def test_gradients_reach_what_was_kept(model):
    model = model64()
    inputs, found = batch(model), []
    for checkpointing in (False, True):
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.zero_grad()
        with tl.prune(model, PLAN):
            model(**inputs, use_cache=False).logits[:, -1].logsumexp(-1).sum().backward()
        found.append({name: value.grad for name, value in model.named_parameters()})
    plain, checkpointed = found
    for name, gradient in plain.items():
        if gradient is not None:
            assert torch.allclose(gradient, checkpointed[name], atol=1e-12)
    assert plain["model.visual.patch_embed.proj.weight"].abs().sum() > 0


def test_offloaded_weights_come_and_go(model):
    """The exception that halts a layer skips accelerate's hooks; the real pass mends it."""
    accelerate = pytest.importorskip("accelerate")
    inputs = batch(model)
    with tl.prune(model, PLAN):
        expected = model.generate(**inputs, max_new_tokens=3)
    for classes in (None, ["Qwen2VLDecoderLayer"]):
        offloaded = model64().float()
        accelerate.cpu_offload(offloaded, execution_device="cpu", preload_module_classes=classes)
        with tl.prune(offloaded, PLAN):
            assert torch.equal(offloaded.generate(**inputs, max_new_tokens=3), expected)
        assert {value.device.type for value in offloaded.parameters()} == {"meta"}


@pytest.mark.parametrize("disposal", ["drop", "freeze"])
def test_a_fused_projection_is_not_sliced_where_its_weights_are_elsewhere(disposal):
    accelerate = pytest.importorskip("accelerate")
    found = case("LLaVA + Phi3", PICTURES)
    plan = plan_for(found.model, [stage(2, "before", 0.5, disposal), stage(4, "before", 0.3)])
    offloaded = copy.deepcopy(found.model)
    accelerate.cpu_offload(offloaded, execution_device="cpu")
    for model in (offloaded, found.model):
        with torch.no_grad(), tl.prune(model, plan):
            logits = model(**found.inputs).logits
        if model is offloaded:
            fetched = logits
    assert torch.allclose(fetched, logits, atol=1e-12)
    with torch.no_grad():
        plain = found.model(**found.inputs).logits
    assert not torch.allclose(fetched[:, -1], plain[:, -1], atol=1e-3), "the control"


def test_a_reset_cache_can_be_filled_again(model):
    inputs = batch(model)
    cache = DynamicCache(config=model.config.get_text_config())
    with torch.no_grad(), tl.prune(model, PLAN):
        first = model(**inputs, past_key_values=cache).logits
        cache.reset()
        assert torch.equal(model(**inputs, past_key_values=cache).logits, first)
    cache.reset()
    with torch.no_grad(), pytest.raises(PruningError, match="its context was left"):
        model(**inputs, past_key_values=cache)
