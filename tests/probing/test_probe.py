import threading

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.support.builders import IMAGE, VOCABULARY, fake_inputs, tiny_qwen2_5_vl, tiny_qwen2_vl
from tokenlens.errors import ModelError, ProbeError
from tokenlens.probing.recording import probe

BATCHES = {
    "one picture": (((3, 4),),),
    "two pictures": (((3, 4), (2, 2)),),
    "ragged, left-padded": (((3, 4),), ((2, 3), (4, 4)), ((2, 2),)),
    "with a text-only sample": (((3, 4),), ()),
}


def eager_rows(model, inputs, last=None):
    """The importance that eager attention shows in its whole maps, per sample."""
    before = model.config.text_config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = model(**inputs, output_attentions=True).attentions
    model.set_attn_implementation(before)
    visual = inputs["input_ids"] == VOCABULARY[IMAGE]
    last = last or [-1] * len(visual)
    return [
        torch.stack([layer[i, :, last[i]][:, visual[i]] for layer in maps])
        for i in range(len(visual))
    ]


def state(model):
    """Everything that a probe could leave behind on a model or in transformers."""
    hooks = [
        (name, key, dict(value))
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if key.endswith("_hooks") and isinstance(value, dict)
    ]
    attributes = [
        (name, {k: id(v) for k, v in vars(module).items() if k[0] != "_" and k != "rope_deltas"})
        for name, module in model.named_modules()
    ]
    configs = [m.config.to_dict() for m in model.modules() if hasattr(m, "config")]
    names = [m.config._attn_implementation for m in model.modules() if hasattr(m, "config")]
    functions = dict(ALL_ATTENTION_FUNCTIONS), dict(ALL_MASK_ATTENTION_FUNCTIONS)
    return hooks, attributes, configs, names, functions


@pytest.mark.parametrize("build", [tiny_qwen2_vl, tiny_qwen2_5_vl])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("grids", BATCHES.values(), ids=BATCHES)
def test_rows_equal_eager_attention_and_output_is_untouched(build, implementation, grids):
    model = build()
    model.set_attn_implementation(implementation)
    inputs = fake_inputs(model, grids)
    with torch.no_grad():
        plain = model(**inputs).logits
        with probe(model, per_head=True) as recording:
            probed = model(**inputs).logits
    assert torch.equal(plain, probed)
    for index, rows in enumerate(eager_rows(model, inputs)):
        importance = recording.importance[index]
        visual = (inputs["input_ids"][index] == VOCABULARY[IMAGE]).nonzero()[:, 0]
        assert importance.dtype == torch.float32
        assert importance.shape == (4, len(visual))
        assert torch.equal(recording.positions[index], visual)
        torch.testing.assert_close(recording.per_head[index], rows, atol=1e-5, rtol=0)
        torch.testing.assert_close(importance, rows.mean(dim=1), atol=1e-5, rtol=0)
        assert (importance.sum(dim=1) <= 1 + 1e-6).all()


def test_control_another_row_is_not_the_recorded_one():
    model = tiny_qwen2_vl()
    inputs = fake_inputs(model)
    with torch.no_grad(), probe(model) as recording:
        model(**inputs)
    other = eager_rows(model, inputs, last=[-2])[0].mean(dim=1)
    assert (recording.importance[0] - other).abs().max() > 1e-3


def test_right_padding_reads_the_last_real_token():
    model = tiny_qwen2_vl()
    inputs = fake_inputs(model)
    length = inputs["input_ids"].shape[1]
    with torch.no_grad(), probe(model) as alone:
        model(**inputs)
    for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
        inputs[name] = torch.nn.functional.pad(inputs[name], (0, 3))
    with torch.no_grad(), probe(model) as padded:
        model(**inputs)
    torch.testing.assert_close(padded.importance, alone.importance, atol=1e-6, rtol=0)
    rows = eager_rows(model, inputs, last=[length - 1])[0].mean(dim=1)
    torch.testing.assert_close(padded.importance[0], rows, atol=1e-5, rtol=0)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_key_outside_the_sliding_window_scores_zero(implementation):
    model = tiny_qwen2_vl()
    text = model.config.text_config
    text.layer_types = ["full_attention", "sliding_attention"] * 2
    text.sliding_window = 8
    decoder = model.get_decoder()
    decoder.has_sliding_layers = True
    for layer, kind in zip(decoder.layers, text.layer_types, strict=True):
        layer.self_attn.layer_type = kind
        layer.self_attn.sliding_window = 8 if kind == "sliding_attention" else None
    model.set_attn_implementation(implementation)
    inputs = fake_inputs(model, BATCHES["ragged, left-padded"])
    with torch.no_grad(), probe(model) as recording:
        model(**inputs)
    for importance, rows in zip(recording.importance, eager_rows(model, inputs), strict=True):
        torch.testing.assert_close(importance, rows.mean(dim=1), atol=1e-5, rtol=0)
        assert importance[1, 0] == 0
        assert importance[0, 0] > 0


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_generate_records_the_prefill_and_ignores_decoding(cache):
    model = tiny_qwen2_vl()
    inputs = fake_inputs(model, BATCHES["ragged, left-padded"])
    options = {"max_new_tokens": 4, "cache_implementation": cache}
    plain = model.generate(**inputs, **options)
    with torch.no_grad(), probe(model) as forward:
        model(**inputs)
    with probe(model) as recording:
        probed = model.generate(**inputs, **options)
    assert torch.equal(plain, probed)
    torch.testing.assert_close(recording.importance, forward.importance, atol=1e-6, rtol=0)


def test_the_latest_prefill_is_the_one_recorded():
    model = tiny_qwen2_vl()
    with torch.no_grad(), probe(model) as recording:
        model(**fake_inputs(model))
        model.generate(**fake_inputs(model, (((2, 2),), ((5, 3),))), max_new_tokens=2)
    assert [row.shape for row in recording.importance] == [(4, 4), (4, 15)]


def test_positional_arguments_are_understood():
    model = tiny_qwen2_vl()
    inputs = fake_inputs(model, BATCHES["ragged, left-padded"])
    with torch.no_grad(), probe(model) as named:
        model(**inputs)
    ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
    with torch.no_grad(), probe(model) as positional:
        model(ids, mask, **inputs)
    assert all(map(torch.equal, named.importance, positional.importance))


def test_a_text_only_prompt_has_no_visual_tokens():
    model = tiny_qwen2_vl()
    with torch.no_grad(), probe(model, per_head=True) as recording:
        model(input_ids=torch.tensor([[9, 10, 11]]))
    assert recording.importance[0].shape == (4, 0)
    assert recording.per_head[0].shape == (4, 4, 0)
    assert recording.positions[0].tolist() == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_dtype_gives_float32_rows(dtype):
    model = tiny_qwen2_vl(dtype=dtype)
    # Hugging Face's own eager attention is NaN on padding in float64
    grids = BATCHES["one picture" if dtype == torch.float64 else "ragged, left-padded"]
    inputs = fake_inputs(model, grids)
    with torch.no_grad():
        plain = model(**inputs).logits
        with probe(model) as recording:
            assert torch.equal(model(**inputs).logits, plain)
    tolerance = {torch.float16: 5e-3, torch.bfloat16: 5e-2, torch.float64: 1e-5}[dtype]
    for importance, rows in zip(recording.importance, eager_rows(model, inputs), strict=True):
        assert importance.dtype == torch.float32
        expected = rows.float().mean(dim=1)
        torch.testing.assert_close(importance, expected, atol=tolerance, rtol=0)


def test_a_kernel_like_function_gets_its_own_mask_and_name(monkeypatch):
    """FlashAttention takes a mask [batch, keys] and finds its kernel by the configured name."""
    sdpa, seen = ALL_ATTENTION_FUNCTIONS["sdpa"], []

    def flash(module, query, key, value, attention_mask, **options):
        seen.append((module.config._attn_implementation, attention_mask))
        length = query.shape[2]
        mask = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
        if attention_mask is not None:
            mask = mask & attention_mask.bool()[:, None, None]
        return sdpa(module, query, key, value, mask, **options)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "kernel_like", flash)
    flash_mask = ALL_MASK_ATTENTION_FUNCTIONS["flash_attention_2"]
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, "kernel_like", flash_mask)
    model = tiny_qwen2_vl()
    inputs = fake_inputs(model, BATCHES["ragged, left-padded"])
    model.config.text_config._attn_implementation = "kernel_like"
    with torch.no_grad():
        plain = model(**inputs).logits
        with probe(model) as recording:
            assert torch.equal(model(**inputs).logits, plain)
    assert {name for name, _ in seen} == {"kernel_like"}
    assert all(mask.ndim == 2 for _, mask in seen)
    rows = eager_rows(model, inputs)
    for importance, row in zip(recording.importance, rows, strict=True):
        torch.testing.assert_close(importance, row.mean(dim=1), atol=1e-5, rtol=0)


class LargeTensors(TorchDispatchMode):
    """Counts the tensors of at least so many elements that are made."""

    def __init__(self, elements):
        super().__init__()
        self.elements, self.count = elements, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.count += isinstance(result, torch.Tensor) and result.numel() >= self.elements
        return result


def test_no_map_of_length_by_length_is_built():
    model = tiny_qwen2_vl()
    inputs = fake_inputs(model, (((20, 20),),))
    square = inputs["input_ids"].shape[1] ** 2
    with torch.no_grad():
        with LargeTensors(square) as plain:
            model(**inputs)
        with probe(model, per_head=True) as recording, LargeTensors(square) as probed:
            model(**inputs)
        model.set_attn_implementation("eager")
        with LargeTensors(square) as eager:
            model(**inputs)
    assert recording.importance[0].shape == (4, 400)
    assert probed.count == plain.count
    assert eager.count > plain.count


def fail(*args, **kwargs):
    raise RuntimeError("the model raised")


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("ending", ["success", "model raises", "interrupted", "bad arguments"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_everything_is_restored(implementation, ending):
    model = tiny_qwen2_vl()
    model.set_attn_implementation(implementation)
    inputs = fake_inputs(model)
    before = state(model)
    layer = model.get_decoder().layers[2]
    if ending == "success":
        with probe(model):
            model(**inputs)
    elif ending == "bad arguments":
        with pytest.raises(ProbeError), probe(model):
            model(inputs_embeds=torch.zeros(1, 3, 32))
        with pytest.raises(ModelError), probe(torch.nn.Linear(2, 2)):
            pass
        with pytest.raises(TypeError), probe(model, heads=True):
            pass
    else:
        raising, error = {
            "model raises": (fail, RuntimeError),
            "interrupted": (interrupt, KeyboardInterrupt),
        }[ending]
        handle = layer.mlp.register_forward_pre_hook(raising)
        with pytest.raises(error), probe(model) as recording:
            model(**inputs)
        handle.remove()
        with pytest.raises(ProbeError, match=r"layers \[4\] of 4"):
            _ = recording.importance
    assert state(model) == before


def test_an_override_of_the_user_comes_back(monkeypatch):
    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def mine(*args, **kwargs):
        return sdpa(*args, **kwargs)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, "sdpa", mine)
    model = tiny_qwen2_vl()
    with torch.no_grad(), probe(model) as recording:
        model(**fake_inputs(model))
    assert len(recording.importance) == 1
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is mine
    with probe(model):
        ALL_ATTENTION_FUNCTIONS["sdpa"] = sdpa
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa


def test_reading_before_any_forward_is_an_error():
    with probe(tiny_qwen2_vl()) as recording:
        for name in ("importance", "positions"):
            with pytest.raises(ProbeError, match="nothing was recorded"):
                getattr(recording, name)
        with pytest.raises(ProbeError, match="per_head=True"):
            _ = recording.per_head


def test_visual_tokens_on_a_filled_cache_are_refused():
    model = tiny_qwen2_vl()
    inputs = fake_inputs(model)
    with torch.no_grad():
        cache = model(input_ids=torch.tensor([[9, 10]]), use_cache=True).past_key_values
        with probe(model), pytest.raises(ProbeError, match="filled cache"):
            model(**inputs, past_key_values=cache)


def test_probes_nest_on_one_model_and_on_two():
    model, other = tiny_qwen2_vl(), tiny_qwen2_vl(layers=3, seed=1)
    inputs = fake_inputs(model)
    before = state(model)
    with torch.no_grad(), probe(model) as outer, probe(other) as beside, probe(model) as inner:
        model(**inputs)
        other(**inputs)
    assert torch.equal(outer.importance[0], inner.importance[0])
    assert beside.importance[0].shape[0] == 3
    assert state(model) == before


def test_a_forward_of_another_thread_is_not_recorded():
    model = tiny_qwen2_vl()
    inputs, others = fake_inputs(model), fake_inputs(model, (((2, 2),),))
    with torch.no_grad(), probe(model) as recording:
        model(**inputs)
        thread = threading.Thread(target=lambda: model(**others))
        thread.start()
        thread.join()
    assert recording.importance[0].shape == (4, 12)


@pytest.mark.filterwarnings("ignore:.*activation_checkpointing_enable:FutureWarning")
def test_gradients_and_checkpointing_go_through():
    model = tiny_qwen2_vl().train()
    model.gradient_checkpointing_enable()
    inputs = fake_inputs(model)
    with probe(model) as recording:
        model(**inputs, use_cache=False).logits.sum().backward()
    assert model.get_decoder().layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0
    rows = eager_rows(model.eval(), inputs)[0].mean(dim=1)
    torch.testing.assert_close(recording.importance[0], rows, atol=1e-5, rtol=0)
