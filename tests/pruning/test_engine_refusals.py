"""What would be silently wrong is refused in one line that says what to do instead."""

import threading

import pytest
import torch
from torch import nn
from transformers import DynamicCache, GenerationConfig, LlavaForConditionalGeneration, StaticCache

import tokenlens as tl
from tests.support.engine_support import (
    ONE,
    SCHEDULES,
    batch,
    extend,
    model64,
    run,
    schedule,
    stage,
)
from tokenlens.errors import ModelError, PruningError, ScheduleError

PLAN = SCHEDULES["bypass three"]


@pytest.fixture(scope="module")
def model():
    return model64().float()


@pytest.fixture(scope="module")
def inputs(model):
    return batch(model)


def refused(match):
    """A `PruningError` of one line."""
    return pytest.raises(PruningError, match=rf"\A[^\n]*{match}[^\n]*\Z")


def test_static_and_other_caches(model, inputs):
    text = model.config.get_text_config()
    with tl.prune(model, PLAN):
        with refused("static or compileable StaticCache"):
            model(**inputs, past_key_values=StaticCache(config=text, max_cache_len=64))
        with refused("static or compileable StaticCache"):
            model.generate(**inputs, max_new_tokens=2, cache_implementation="static")

        class Mine(DynamicCache):
            pass

        with refused("the cache is a Mine, expected a plain DynamicCache"):
            model(**inputs, past_key_values=Mine(config=text))
        with refused("expected a plain DynamicCache"):
            model(**inputs, past_key_values=((torch.zeros(1),),))
        offloaded = DynamicCache(config=text)
        offloaded.offloading = True
        with refused("DynamicCache with offloading"):
            model(**inputs, past_key_values=offloaded)


def test_compiled_models(model, inputs):
    compiled = torch.compile(model, backend="eager")
    with refused("the model is compiled"), tl.prune(compiled, PLAN):
        pass
    own = model64().float()
    own.model.language_model.layers[1].compile(backend="eager")
    with refused("the model is compiled"), tl.prune(own, PLAN):
        pass


def test_compiled_forwards(inputs):
    """`model.forward = torch.compile(model.forward)` leaves no mark on the module itself."""
    model = model64().float()
    for module in (model, model.model.language_model, model.model.language_model.layers[1]):
        module.forward = torch.compile(module.forward, backend="eager")
        with refused("the model is compiled"), tl.prune(model, PLAN):
            pass
        del module.forward
    with tl.prune(model, PLAN):
        model(**inputs)


def test_prefill_chunking(model, inputs):
    with tl.prune(model, PLAN), refused("prefill_chunk_size"):
        model.generate(**inputs, max_new_tokens=2, prefill_chunk_size=8)
    with tl.prune(model, PLAN), refused("prefill_chunk_size"):
        model.generate(inputs["input_ids"], GenerationConfig(prefill_chunk_size=8))
    model.generation_config.prefill_chunk_size = 8
    try:
        with tl.prune(model, PLAN), refused("prefill_chunk_size"):
            model.generate(**inputs, max_new_tokens=2)
    finally:
        model.generation_config.prefill_chunk_size = None


def test_generation_without_a_cache(model, inputs):
    with tl.prune(model, PLAN), refused("leave `use_cache` on"):
        model.generate(**inputs, max_new_tokens=2, use_cache=False)


def test_labels_and_tensor_logits_to_keep(model, inputs):
    with tl.prune(model, PLAN):
        with refused("`labels` do not match"):
            model(**inputs, labels=inputs["input_ids"])
        with refused("`logits_to_keep` as a tensor"):
            model(**inputs, logits_to_keep=torch.tensor([3]))
        assert model(**inputs, logits_to_keep=2).logits.shape[1] == 2


def test_packed_inputs(model):
    inputs = batch(model, ONE)
    length = inputs["input_ids"].shape[1]
    del inputs["attention_mask"]
    positions = torch.cat([torch.arange(10), torch.arange(length - 10)])
    with tl.prune(model, PLAN):
        with refused("packed inputs"):
            model(**inputs, position_ids=positions.expand(4, 1, -1), use_cache=False)
        with refused("packed inputs"):
            model(**inputs, cu_seq_lens_q=torch.tensor([0, 10, length]))
        model(**inputs, position_ids=torch.arange(length).expand(4, 1, -1))


def test_prompts_that_cannot_be_read(model, inputs):
    with tl.prune(model, PLAN):
        with refused("`input_ids` are needed"):
            model(inputs_embeds=torch.zeros(1, 4, 32))
        mask = inputs["attention_mask"].clone()
        mask[1, -1] = 0
        with refused("padded on the right"):
            model(**{**inputs, "attention_mask": mask})
        with refused(r"`attention_mask` must be \[batch, length\]"):
            model(**{**inputs, "attention_mask": torch.ones(3, 1, 40, 40, dtype=torch.bool)})


def test_decoder_layers_without_self_attn():
    model = model64().float()
    layer = model.model.language_model.layers[3]
    layer.attention = layer.self_attn
    del layer.self_attn
    with refused(r"decoder layer 4 \(Qwen2VLDecoderLayer\) has no `self_attn`"):
        tl.prune(model, PLAN).__enter__()


def test_nested_and_concurrent_contexts(model, inputs):
    with tl.prune(model, PLAN):
        with refused("already being pruned"), tl.prune(model, PLAN):
            pass
        vlm = tl.VLM.wrap(model)
        with refused("already being pruned"), tl.prune(vlm, PLAN):
            pass
        other = model64().float()
        with tl.prune(other, PLAN):
            other(**inputs)
        model(**inputs)
    with tl.prune(model, PLAN):
        model(**inputs)


def test_two_threads_in_one_context(model, inputs, monkeypatch):
    """The second forward pass is refused while the first is under way."""
    found = []

    def call():
        try:
            model(**inputs)
        except PruningError as error:
            found.append(str(error))

    mlp = model.model.language_model.layers[2].mlp
    original = mlp.forward

    def slow(*args, **kwargs):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        return original(*args, **kwargs)

    with tl.prune(model, PLAN):
        monkeypatch.setattr(mlp, "forward", slow)
        model(**inputs)
    assert len(found) == 1
    assert "another thread" in found[0]


def test_visual_tokens_in_a_later_chunk(model, inputs):
    with tl.prune(model, PLAN), torch.no_grad():
        cache = model(**inputs).past_key_values
        with refused("visual tokens arrived after the cache was filled"):
            model(**inputs, past_key_values=cache)
        cache = model(**inputs).past_key_values
        picture = {"input_ids": inputs["input_ids"], "mm_token_type_ids": None}
        with refused("visual tokens arrived after the cache was filled"):
            model(**picture, past_key_values=cache)


def test_a_generated_image_token_is_no_picture(model, inputs):
    """A random model may write any token; that one is text like the others."""
    image = torch.full((3, 1), model.config.image_token_id)
    with tl.prune(model, PLAN):
        _, later, _ = run(model, inputs, image)
    assert torch.isfinite(later).all()


def test_a_decode_after_the_context_was_left(model, inputs):
    token = torch.tensor([[11], [12], [13]])
    with tl.prune(model, PLAN):
        _, _, cache = run(model, inputs, token[:, :0])
    with refused("its context was left"):
        extend(model, inputs["attention_mask"], token, cache)
    with tl.prune(model, PLAN), refused("filled outside of this pruning context"):
        extend(model, inputs["attention_mask"], token, cache)


def test_a_cache_filled_before_the_context(model, inputs):
    token = torch.tensor([[11], [12], [13]])
    _, _, cache = run(model, inputs, token[:, :0])
    with tl.prune(model, PLAN), refused("filled outside of this pruning context"):
        extend(model, inputs["attention_mask"], token, cache)


def test_a_part_of_the_model_called_by_itself(model, inputs):
    with tl.prune(model, PLAN), refused("was called by itself"):
        model.model(**inputs)


def test_skipped_layers(inputs):
    model = model64().float()
    with tl.prune(model, PLAN):
        del model.model.language_model.layers[2]
        with refused("decoder layer 4 came after layer 2"):
            model(**inputs)


def test_attention_that_cannot_be_heard(inputs, monkeypatch):
    model = model64().float()
    attention = model.model.language_model.layers[0].self_attn
    monkeypatch.setattr(
        attention, "forward", lambda hidden_states, **_: (torch.zeros_like(hidden_states), None)
    )
    with tl.prune(model, PLAN), refused("layer 1 did not call its attention"):
        model(**inputs)
    attention = model.model.language_model.layers[2].self_attn
    monkeypatch.undo()
    monkeypatch.setattr(
        attention, "forward", lambda hidden_states, **_: (torch.zeros_like(hidden_states), None)
    )
    with tl.prune(model, PLAN), refused("layer 3 did not call its attention"):
        model(**inputs)


def test_other_attention_implementations():
    model = model64().float()
    config = model.config.text_config
    config._attn_implementation_internal = "flex_attention"
    with refused("attention implementation 'flex_attention' is not supported"):
        tl.prune(model, PLAN).__enter__()
    config._attn_implementation_internal = "flash_attention_2"
    config.layer_types = ["sliding_attention"] * 6
    config.sliding_window = 8
    with refused("counts a sliding window in stored keys"):
        tl.prune(model, PLAN).__enter__()


def test_schedules_without_meaning(model):
    for plan, message in (
        (schedule(stage(0, "after", 0.5)), "score_layer: got 0, where there is no attention"),
        (
            schedule(stage(0, "after", 0.5), query="raters"),
            "got 0, where there is no attention to read for query 'raters'",
        ),
        (schedule(stage(2, "after", 0.5), heads=[[3, 0]]), "of which scorer.heads lists no head"),
        (
            schedule(stage(2, "after", 0.5), heads=[[2, 4]]),
            "got head 4 of layer 2, expected 0 to 3",
        ),
        (schedule(stage(2, "after", 0.5), heads=5), "got 5 heads, expected at most 4"),
    ):
        with refused(message):
            tl.prune(model, plan).__enter__()


def test_renumbering_without_rotary_embedding():
    model = model64().float()
    del model.model.language_model.rotary_emb
    with refused("'renumber' needs a decoder with a `rotary_emb`"):
        tl.prune(model, schedule(stage(2, "after", 0.5, positions="renumber"))).__enter__()


def test_text_rows_without_text(model):
    inputs = batch(model, ONE)
    end = int((inputs["input_ids"] == model.config.image_token_id).nonzero()[-1, 1]) + 1
    for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
        inputs[name] = inputs[name][:, :end]
    plan = schedule(stage(2, "after", 0.5), query="text")
    with tl.prune(model, plan), refused("sample 0: there is no text after its last visual token"):
        model(**inputs)


def test_schedules_of_other_models(model):
    with pytest.raises(ScheduleError, match="layers"):
        tl.prune(model, schedule(stage(2, "after", 0.5), layers=5)).__enter__()
    other = PLAN.replace(
        model={"architecture": LlavaForConditionalGeneration.__name__, "layers": 6}
    )
    with pytest.raises(ScheduleError, match="architecture"):
        tl.prune(model, other).__enter__()
    with pytest.raises(ModelError):
        tl.prune(nn.Linear(2, 2), PLAN).__enter__()
