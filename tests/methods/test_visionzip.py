"""VisionZip as a preset: what it reads from the vision tower, what it chooses and what it makes."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

import tokenlens as tl
from tests.references.published_rules import Reading
from tests.references.published_vision import seen_by_tower, visionzip
from tests.support.families import ONE, RAGGED, case
from tests.support.family_models import IMAGE, PATCH, SIDE, TEXT, drawn, vision_tower
from tests.support.restoring import assert_same, snapshot
from tokenlens.errors import ModelError, PruningError
from tokenlens.models.adapters import ADAPTERS, required_tower
from tokenlens.schedule import ModelRef, Schedule
from tokenlens.schedule.disposal_kinds import merge_count
from tokenlens.schedule.token_counts import keep_count

READ = ("Qwen2-VL", "Qwen2.5-VL", "Qwen3-VL", "LLaVA-1.5", "SigLIP", "InternVL", "SmolVLM")
READ += ("Idefics3", "Gemma3", "PaliGemma")


def found_of(name, sizes=RAGGED):
    """The case of a family, or of a LLaVA with SigLIP's tower."""
    if name != "SigLIP":
        return case(name, sizes)
    vision = {
        **vision_tower("siglip_vision_model", SIDE * PATCH, layers=3),
        "vision_use_head": False,
    }
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**TEXT),
        image_token_index=IMAGE,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return replace(case("LLaVA-1.5", sizes), model=drawn(LlavaForConditionalGeneration(config)))


def pruned(found, inputs, plan):
    """The trace of a prefill, and the hidden states that enter layer 1."""
    entering = []
    layer = found.model.get_decoder().layers[0]
    with torch.no_grad(), tl.prune(found.model, plan) as trace:
        handle = layer.register_forward_pre_hook(lambda _, args: entering.append(args[0]))
        found.model(**inputs)
        handle.remove()
    return trace, entering[0]


def by_rule(found, plan, **options):
    """Dominant and contextual places of every sample, and what the latter are."""
    answers, (only,) = [], plan.stages
    reading_options = {key: options.pop(key) for key in ("class_row", "back") if key in options}
    for inputs in found.alone:
        reading = Reading(found.model, inputs)
        count = int(reading.visual.sum())
        kept = keep_count(only.keep, count)
        made = merge_count(only.merge, count - kept)
        seen = seen_by_tower(found.model, inputs, **reading_options)
        answers.append(visionzip(reading, seen, kept, made, **options))
    return answers


def chosen(trace, offsets):
    (only,) = trace.stages
    return [
        ((places - offset).tolist(), (made - offset).tolist())
        for places, made, offset in zip(only.selected, only.merged, offsets, strict=True)
    ]


@pytest.mark.parametrize("name", ["Qwen2-VL", "LLaVA-1.5", "SigLIP"])
def test_the_choice_and_what_is_made_of_the_rest_are_those_of_the_published_rule(name):
    found = found_of(name)
    plan = Schedule.preset("visionzip", found.model, budget="60%")
    trace, entering = pruned(found, found.inputs, plan)
    answers = by_rule(found, plan)
    choices = chosen(trace, found.offsets)
    assert choices == [(places, list(made)) for places, made in answers]
    control = {"SigLIP": {"back": 1}, "Qwen2-VL": {"back": 1}, "LLaVA-1.5": {"class_row": False}}
    others = by_rule(found, plan, **control[name])
    assert choices != [(places, list(made)) for places, made in others], "not seen"
    unlike = by_rule(found, plan, by_keys=False)
    differing = 0.0
    for row, (inputs, (places, made)) in enumerate(zip(found.alone, answers, strict=True)):
        text = (~Reading(found.model, inputs).visual).nonzero().flatten().tolist()
        order = sorted([*text, *places, *made])
        for place, states in made.items():
            at = entering.shape[1] - len(order) + order.index(place)
            torch.testing.assert_close(entering[row, at], states, rtol=0, atol=1e-12)
            differing += float((entering[row, at] - unlike[row][1][place]).abs().max())
    assert differing > 0.1, "the control is not seen"


@pytest.mark.parametrize("name", READ)
def test_neither_batch_nor_generation_nor_beams_change_the_choice(name):
    found = found_of(name)
    scorer, only = {"query": "vision"}, {"score_layer": 0, "when": "after", "keep": 0.4}
    plan = Schedule(
        schema=1,
        method="m",
        model=ModelRef.of(found.model),
        scorer=scorer,
        stages=[{**only, "disposal": "drop"}],
    )
    trace, _ = pruned(found, found.inputs, plan)
    choices = chosen(trace, found.offsets)
    assert choices == [chosen(pruned(found, inputs, plan)[0], [0])[0] for inputs in found.alone]
    with torch.no_grad(), tl.prune(found.model, plan) as trace:
        found.model.generate(**found.inputs, max_new_tokens=2)
        assert chosen(trace, found.offsets) == choices
        found.model.generate(**found.inputs, max_new_tokens=2, num_beams=2)
        assert chosen(trace, [n for n in found.offsets for _ in (1, 2)])[::2] == choices


@pytest.mark.parametrize("name", ["Qwen2-VL", "LLaVA-1.5", "SigLIP"])
def test_an_eager_tower_says_the_same_and_nothing_is_left_behind(name):
    found = found_of(name)
    plan = Schedule.preset("visionzip", found.model, budget="60%")
    with torch.no_grad():
        found.model(**found.inputs)  # transformers' own hooks for hidden states come with it
    before = snapshot(found.model)
    trace, entering = pruned(found, found.inputs, plan)
    assert_same(found.model, before)
    found.model.set_attn_implementation({"vision_config": "eager"})
    try:
        again, same = pruned(found, found.inputs, plan)
    finally:
        found.model.set_attn_implementation({"vision_config": "sdpa"})
    assert chosen(again, found.offsets) == chosen(trace, found.offsets)
    torch.testing.assert_close(same, entering, rtol=0, atol=1e-4)  # eager softmax is in float32
    with tl.prune(found.model, plan), pytest.raises(AssertionError):
        assert_same(found.model, before)
    with pytest.raises(RuntimeError), tl.prune(found.model, plan):
        found.model(**{**found.inputs, "pixel_values": found.inputs["pixel_values"][:, :1]})
    assert_same(found.model, before)


@pytest.mark.parametrize("name", ["Qwen2-VL", "LLaVA-1.5"])
def test_reading_the_tower_is_counted(name):
    found = found_of(name, ONE)
    plan = Schedule.preset("visionzip", found.model, budget="60%")
    found.model.set_attn_implementation({"vision_config": "eager"})
    looked = required_tower(found.model).module

    def tower_macs():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            found.model(**found.inputs)
        path = next(key for key, module in found.model.named_modules() if module is looked)
        counts = counter.get_flop_counts()[f"{type(found.model).__name__}.{path}"]
        return sum(counts.values()) / 2

    try:
        plain = tower_macs()
        with tl.prune(found.model, plan) as trace:
            macs = tower_macs() - plain
    finally:
        found.model.set_attn_implementation({"vision_config": "sdpa"})
    assert macs
    assert trace.cost.scoring_macs[0] == pytest.approx(macs, rel=1e-6)


def test_only_a_schedule_that_asks_reads_the_tower():
    found = found_of("LLaVA-1.5", ONE)
    module = required_tower(found.model).module
    for name, hooks in (("visionzip", 1), ("divprune", 0)):
        plan = Schedule.preset(name, found.model, budget="60%")
        with tl.prune(found.model, plan):
            assert len(module._forward_pre_hooks) == hooks


@pytest.mark.parametrize("budget", [0.12, 0.2, 1 / 3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("n_visual", [9, 144, 576, 2880])
def test_dominant_and_contextual_tokens_are_split_as_published(budget, n_visual):
    model = ModelRef(architecture="A", layers=8)
    plan = Schedule.preset("visionzip", model, budget=budget, n_visual=n_visual)
    (only,) = plan.stages
    total = plan.tokens_entering(n_visual, 8)[0]
    kept = keep_count(only.keep, n_visual)
    assert abs(total - budget * n_visual) <= 1
    assert abs(kept - total * 27 / 32) <= 1
    assert total - kept == merge_count(only.merge, n_visual - kept)


@pytest.mark.parametrize(("average", "dominant"), [(192, 162), (64, 54), (128, 108)])
def test_the_published_numbers(average, dominant):
    model = ModelRef(architecture="A", layers=32)
    plan = Schedule.preset("visionzip", model, budget=average, n_visual=576)
    assert keep_count(plan.stages[0].keep, 576) == pytest.approx(dominant, abs=1)


@pytest.mark.parametrize("name", ["LLaVA-NeXT", "LLaVA-OneVision", "Mistral3", "Pixtral"])
def test_towers_that_are_not_read_are_refused_in_a_line(name):
    found = case(name, ONE)
    plan = Schedule.preset("visionzip", found.model, budget="60%")
    family = ADAPTERS[found.model.config.model_type].family
    with pytest.raises(ModelError, match=f"{family} model .*use divprune") as caught:
        pruned(found, found.inputs, plan)
    assert "\n" not in str(caught.value)


def test_pictures_the_tower_was_not_seen_to_read_are_refused():
    found = case("LLaVA-1.5", ONE)
    plan = Schedule.preset("visionzip", found.model, budget="60%")
    inputs = {key: value for key, value in found.inputs.items() if key != "pixel_values"}
    with torch.no_grad():
        ready = {"image": found.model.get_image_features(found.inputs["pixel_values"])}
        with (
            pytest.raises(PruningError, match="seen to make 0 visual tokens of the 25"),
            tl.prune(found.model, plan),
        ):
            found.model(**inputs, mm_encoder_outputs=ready)


def test_a_prompt_without_pictures_passes():
    found = case("LLaVA-1.5", ONE)
    plan = Schedule.preset("visionzip", found.model, budget="60%")
    ids = torch.randint(10, 60, (2, 9))
    with torch.no_grad(), tl.prune(found.model, plan) as trace:
        found.model(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert not trace.tokens_per_layer.any()
    assert not trace.cost.scoring_macs.any()


def test_qwen2_5_reads_whole_pictures_and_puts_windows_back_in_order():
    found = case("Qwen2.5-VL", RAGGED)
    read, visual = required_tower(found.model), found.model.model.visual
    patches, views = [], []
    handles = [
        visual.patch_embed.register_forward_hook(lambda _, __, out: patches.append(out)),
        visual.blocks[0].register_forward_pre_hook(lambda _, args: views.append(args[0])),
    ]
    with torch.no_grad():
        found.model(**found.inputs)
    for handle in handles:
        handle.remove()
    call = {"grid_thw": found.inputs["image_grid_thw"]}
    expected = patches[0].unflatten(0, (-1, 4)).mean(1)
    torch.testing.assert_close(read.tokens(views, call), expected)
    assert not torch.allclose(views[0].unflatten(0, (-1, 4)).mean(1), expected), "not seen"
    assert read.attention is visual.blocks[1].attn


@pytest.mark.parametrize("name", ["InternVL", "SmolVLM", "Gemma3"])
def test_a_token_is_made_of_the_patches_that_the_model_joins(name):
    model = case(name, ONE).model
    side = 8
    patches = torch.randn(2, side * side, 32, dtype=torch.float64)
    base, read = model.model, required_tower(model)
    if name == "InternVL":
        joined = base.pixel_shuffle(patches.view(2, side, side, 32)).flatten(1, 2)
    elif name == "SmolVLM":
        joined = base.connector.pixel_shuffle(patches, model.config.scale_factor)
    else:
        grid = patches.transpose(1, 2).view(2, 32, side, side)
        joined = base.multi_modal_projector.avg_pool(grid).flatten(2).transpose(1, 2)
    expected = joined.unflatten(-1, (-1, 32)).mean(2).flatten(0, 1)
    torch.testing.assert_close(read.tokens(list(patches), {}), expected)
