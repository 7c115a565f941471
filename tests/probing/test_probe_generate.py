"""However `generate()` runs its prompt, the recorded row is the last prompt token's."""

import copy

import pytest
import torch
from transformers import DynamicCache, GenerationConfig

import tokenlens as tl
from tests.support.builders import VOCABULARY, fake_inputs, tiny_qwen2_vl
from tests.support.families import ONE, case
from tokenlens.errors import ProbeError

RAGGED = (((3, 4),), ((2, 3), (4, 4)), ((2, 2),))


@pytest.fixture
def model():
    return tiny_qwen2_vl()


def inputs_of(model, grids=(((3, 4),),), **options):
    """A prompt whose last words stand in it before, so that prompt lookup finds candidates.

    The model does not write image tokens, which it could not run again without a cache.
    """
    model.generation_config.suppress_tokens = [VOCABULARY["<|image_pad|>"]]
    inputs = fake_inputs(model, grids, text=[9] * len(grids), **options)
    inputs["input_ids"][:, -2:] = inputs["input_ids"][:, -8:-6]
    return inputs


def eager_importance(model, inputs):
    """Of one plain forward with eager attention, the last token's row of every sample."""
    before = model.config.text_config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = model(**inputs, output_attentions=True).attentions
    model.set_attn_implementation(before)
    visual = inputs["input_ids"] == VOCABULARY["<|image_pad|>"]
    return [
        torch.stack([layer[row, :, -1].mean(0)[visual[row]] for layer in maps])
        for row in range(len(visual))
    ]


def assert_recorded(recording, expected, copies=1):
    assert len(recording.importance) == copies * len(expected)
    for row, importance in enumerate(recording.importance):
        assert (importance - expected[row // copies]).abs().max() < 1e-5


def draft_of(model):
    """A draft model that is often right, so that candidates are taken and others are not."""
    draft = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in draft.lm_head.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return draft


def in_training(model):
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    return {}


WAYS = {
    "greedy": lambda _: {},
    "sampling": lambda _: {"do_sample": True, "temperature": 2.0},
    "several answers": lambda _: {"do_sample": True, "num_return_sequences": 2},
    "beams": lambda _: {"num_beams": 3},
    "no cache": lambda _: {"use_cache": False},
    "beams without a cache": lambda _: {"num_beams": 2, "use_cache": False},
    "static cache": lambda _: {"cache_implementation": "static"},
    "chunks": lambda _: {"prefill_chunk_size": 8},
    "chunks into a static cache": lambda _: {
        "prefill_chunk_size": 8,
        "cache_implementation": "static",
    },
    "train mode with checkpointing": in_training,
}
ALONE = {
    "a draft model": lambda model: {"assistant_model": draft_of(model)},
    "prompt lookup": lambda _: {"prompt_lookup_num_tokens": 3},
    "itself as its draft": lambda model: {"assistant_model": model},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", [*WAYS, *ALONE])
def test_every_way_to_generate_records_the_last_prompt_token(model, way):
    grids = RAGGED if way in WAYS else (((3, 4), (2, 2)),)
    inputs = inputs_of(model, grids)
    expected = eager_importance(model, inputs)
    options = {**WAYS, **ALONE}[way](model)
    widths = []
    with tl.probe(model) as recording:
        handle = model.register_forward_pre_hook(
            lambda _, args, kwargs: widths.append((*args, kwargs.get("input_ids"))[0].shape[1]),
            with_kwargs=True,
        )
        model.generate(**inputs, max_new_tokens=6, **options)
        handle.remove()
    assert len(widths) > 1, "no decoding at all"
    if way in ("a draft model", "prompt lookup", "itself as its draft"):
        assert max(widths) > inputs["input_ids"].shape[1], "no draft in the first forward"
    copies = max(options.get("num_beams", 1), options.get("num_return_sequences", 1))
    assert_recorded(recording, expected, copies)
    length = inputs["input_ids"].shape[1]
    assert all((places < length).all() for places in recording.positions)


def test_a_loop_of_the_user_within_generate(model):
    """Without a cache: longer and longer sequences, none of them a prompt but the first."""
    inputs = inputs_of(model)
    expected = eager_importance(model, inputs)

    def loop(model, input_ids, **_):
        for _ in range(3):
            kinds = (input_ids == VOCABULARY["<|image_pad|>"]).int()
            longer = {"input_ids": input_ids, "mm_token_type_ids": kinds}
            mask = torch.ones_like(input_ids)
            output = model(**{**inputs, **longer, "attention_mask": mask}, use_cache=False)
            input_ids = torch.cat([input_ids, output.logits[:, -1:].argmin(-1)], dim=1)
        return input_ids

    with tl.probe(model) as recording:
        assert model.generate(**inputs, custom_generate=loop).shape[1] > len(inputs["input_ids"][0])
    assert_recorded(recording, expected)


def test_guidance_runs_another_prompt_that_is_not_recorded():
    found = case("LLaVA-1.5", ONE)
    with tl.probe(found.model) as plain, torch.no_grad():
        found.model(**found.inputs)
    with tl.probe(found.model) as recording:
        found.model.generate(**found.inputs, max_new_tokens=3, guidance_scale=1.5)
    assert (recording.importance[0] - plain.importance[0]).abs().max() < 1e-6


def test_control_the_row_of_a_draft_is_another(model):
    inputs = inputs_of(model)
    longer = {
        name: torch.cat([inputs[name], inputs[name][:, -1:]], dim=1)
        for name in ("input_ids", "attention_mask", "mm_token_type_ids")
    }
    expected = eager_importance(model, inputs)[0]
    other = eager_importance(model, {**inputs, **longer})[0]
    assert (expected - other).abs().max() > 1e-3


def test_a_model_that_only_drafts_is_refused_on_reading(model):
    """transformers shows drafts no pictures: the row would be of mere placeholders."""
    inputs, large = inputs_of(model), draft_of(model)
    with tl.probe(large) as both, tl.probe(model) as recording:
        model.generate(**inputs, max_new_tokens=2)
        large.generate(**inputs, max_new_tokens=6, assistant_model=model)
        with pytest.raises(ProbeError, match=r"\A[^\n]*only drafted for another[^\n]*\Z"):
            _ = recording.importance
    assert_recorded(both, eager_importance(large, inputs))


def test_a_bundled_model_with_a_draft():
    vlm = tl.load("tiny-qwen2-vl", device="cpu")
    draft = copy.deepcopy(vlm.model)
    for sample in tl.load_samples("scenes")[:3]:
        inputs = vlm.prepare(sample.open_image(), sample.question)
        with tl.probe(vlm) as plain, torch.no_grad():
            vlm.model(**inputs)
        with tl.probe(vlm) as assisted:
            vlm.model.generate(**inputs, max_new_tokens=6, assistant_model=draft)
        assert (plain.importance[0] - assisted.importance[0]).abs().max() < 1e-5


def turns(model, inputs):
    """A first turn with its cache, and the ids of all, a second question at the end."""
    first = model.generate(**inputs, max_new_tokens=3, return_dict_in_generate=True)
    more = torch.tensor([[11, 25, 31, 17]]).expand(len(first.sequences), -1)
    ids = torch.cat([first.sequences, more], dim=1)
    padded = torch.nn.functional.pad(
        inputs["attention_mask"], (0, ids.shape[1] - inputs["attention_mask"].shape[1]), value=1
    )
    return first.past_key_values, ids, padded


@pytest.mark.parametrize("name", ["Qwen2-VL", "Gemma3", "LLaVA-1.5"])
def test_a_further_turn_is_recorded_at_its_own_last_token(name):
    """On the first turn's cache, sliding windows included: as of one forward of it all."""
    found = case(name, ONE)
    model, inputs = found.model, found.inputs
    with tl.probe(model) as recording:
        cache, ids, mask = turns(model, inputs)
        first = recording.importance[0]
        model.generate(input_ids=ids, attention_mask=mask, past_key_values=cache, max_new_tokens=2)
        second = recording.importance[0]
    kinds = {
        name: torch.nn.functional.pad(value, (0, ids.shape[1] - value.shape[1]))
        for name, value in inputs.items()
        if name.endswith("token_type_ids")
    }
    with tl.probe(model) as recording, torch.no_grad():
        model(**{**inputs, **kinds, "input_ids": ids, "attention_mask": mask})
    assert (second - recording.importance[0]).abs().max() < 1e-5
    assert (first - second).abs().max() > 1e-3, "the turns look alike"


def test_a_further_turn_given_as_new_tokens_alone_is_refused(model):
    """Where its visual tokens stand is then in the cache only."""
    with tl.probe(model) as recording:
        cache, ids, mask = turns(model, inputs_of(model))
        model.generate(
            input_ids=ids[:, -4:], attention_mask=mask, past_key_values=cache, max_new_tokens=2
        )
        with pytest.raises(ProbeError, match=r"\A[^\n]*give it the whole sequence[^\n]*\Z"):
            _ = recording.importance


def test_more_tokens_on_a_filled_cache_by_hand_are_refused_on_reading(model):
    """They may be the rest of the prompt, or drafts: no one can tell."""
    inputs = inputs_of(model)
    cache = DynamicCache(config=model.config.get_text_config())
    with tl.probe(model) as recording, torch.no_grad():
        model(**inputs, past_key_values=cache)
        expected = recording.importance[0]
        token = torch.tensor([[11]])
        model(input_ids=token, past_key_values=cache)
        assert torch.equal(recording.importance[0], expected), "a decoding step"
        model(input_ids=torch.tensor([[11, 12]]), past_key_values=cache)
        with pytest.raises(ProbeError, match=r"\A[^\n]*2 tokens were fed at once[^\n]*\Z"):
            _ = recording.importance
        model(**inputs)
        assert torch.equal(recording.importance[0], expected)


def test_a_system_prompt_in_the_cache_is_part_of_the_prompt(model):
    inputs = inputs_of(model)
    expected = eager_importance(model, inputs)
    with torch.no_grad():
        cache = model(input_ids=inputs["input_ids"][:, :2], use_cache=True).past_key_values
    with tl.probe(model) as recording:
        model.generate(**inputs, past_key_values=cache, max_new_tokens=2)
    assert_recorded(recording, expected)


def test_embeddings_instead_of_ids_are_refused(model):
    embeddings = torch.zeros(1, 4, 32)
    with tl.probe(model), pytest.raises(ProbeError, match="pass input_ids"):
        model.generate(inputs_embeds=embeddings, max_new_tokens=2)
    ids = torch.tensor([[9, 10, 11, 12]])
    with tl.probe(model) as recording:
        model.generate(input_ids=ids, inputs_embeds=embeddings, max_new_tokens=2)
        with pytest.raises(ProbeError, match="nothing was recorded"):
            _ = recording.importance


def test_several_calls_and_positional_arguments(model):
    short, long = inputs_of(model), inputs_of(model, RAGGED)
    expected = [eager_importance(model, inputs) for inputs in (short, long)]
    with tl.probe(model) as recording:
        model.generate(**long, max_new_tokens=3)
        ids = short.pop("input_ids")
        model.generate(ids, GenerationConfig(max_new_tokens=3), **short)
        short["input_ids"] = ids
        assert_recorded(recording, expected[0])
        model.generate(**long, max_new_tokens=1)
        assert_recorded(recording, expected[1])


def test_a_stop_in_the_middle_of_generating(model):
    inputs = inputs_of(model)
    expected = eager_importance(model, inputs)

    def stop(*_):
        raise RuntimeError("enough")

    with tl.probe(model) as recording:
        with pytest.raises(RuntimeError, match="enough"):
            model.generate(**inputs, max_new_tokens=4, logits_processor=[stop])
        assert_recorded(recording, expected)
        model.generate(**inputs, max_new_tokens=2)
        assert_recorded(recording, expected)


def test_contexts_left_out_of_order_leave_generate_as_it_was(model):
    before = type(model).generate
    first, second = tl.probe(model), tl.probe(model)
    first.__enter__()
    recording = second.__enter__()
    first.__exit__(None, None, None)
    inputs = inputs_of(model)
    model.generate(**inputs, max_new_tokens=2, prompt_lookup_num_tokens=3)
    second.__exit__(None, None, None)
    assert_recorded(recording, eager_importance(model, inputs))
    assert type(model).generate is before
    assert "generate" not in vars(model)
