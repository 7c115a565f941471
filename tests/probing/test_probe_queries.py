"""Rows of any query token, of prompts and of decoding steps, beside what eager attention shows."""

import pytest
import torch
from transformers import DynamicCache

import tokenlens as tl
from tests.support.comparing import eager_maps, eager_steps, go_on, tokens_for
from tests.support.families import FAMILIES, ONE, RAGGED, case
from tests.support.true_float64 import true_float64
from tokenlens.errors import ProbeError

EXACT, CLOSE = 1e-10, 1e-5
SEEN = 1e-4
"""What every control must differ by."""
STEPS = 9
"""Tokens of an answer: the prompt's row and eight decoding steps."""
EVERY_FAMILY = pytest.mark.parametrize("name", FAMILIES)
WAYS = {
    "greedy": {},
    "sampling": {"do_sample": True, "temperature": 3.0, "num_return_sequences": 2},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "sampled beams": {"num_beams": 2, "do_sample": True, "temperature": 3.0},
    "no cache": {"use_cache": False},
}


def generate(found, **options):
    """Answers of text alone: image tokens are not written."""
    model = found.model
    torch.manual_seed(7)
    return model.generate(
        **found.inputs,
        max_new_tokens=STEPS,
        suppress_tokens=[model.config.image_token_id, 0],
        **options,
    )


def largest_difference(found, recording, sequences, shift=0):
    """From eager attention on each returned sequence alone; `shift` takes another one: a control.

    Of more returned sequences than prompts each prompt has as many.
    """
    rows, length = recording.per_head, found.inputs["input_ids"].shape[1]
    copies, errors = len(sequences) // len(found.alone), []
    assert len(rows) == len(sequences)
    for index in range(len(sequences)):
        count = rows[index].shape[2]
        other = sequences[(index + shift) % len(sequences), length : length + count - 1]
        expected = eager_steps(found.model, found.alone[index // copies], other)
        assert rows[index].shape == expected.shape
        errors.append((rows[index] - expected).abs().max())
    return float(torch.stack(errors).max())


@pytest.mark.parametrize("way", WAYS)
@EVERY_FAMILY
def test_generated_rows_equal_eager_attention(name, way):
    """Prefill and eight steps of a ragged batch, in true float64."""
    if way == "no cache" and "PaliGemma" in name:
        pytest.skip("transformers runs PaliGemma without a cache on another mask")
    found = case(name, RAGGED)
    with true_float64():
        plain = generate(found, **WAYS[way])
        with tl.probe(found.model, queries="generated", per_head=True) as recording:
            probed = generate(found, **WAYS[way])
        assert torch.equal(plain, probed)
        assert largest_difference(found, recording, probed) < EXACT
        if len(probed) > len(found.alone):
            assert largest_difference(found, recording, probed, shift=1) > SEEN
    length = found.inputs["input_ids"].shape[1]
    assert all(
        queries.tolist() == list(range(length - 1, length - 1 + STEPS))
        for queries in recording.queries
    )
    assert recording.token_ids == probed[:, length:].tolist()


@EVERY_FAMILY
def test_rows_of_the_prompt_equal_eager_attention(name):
    """The text after the pictures, chosen positions and a function's, in true float64."""
    found = case(name, RAGGED)
    image = found.model.config.image_token_id
    asked = {
        "text": "text",
        "positions": [-1, -3],
        "function": lambda ids: (ids != image) & (torch.arange(len(ids)) > len(ids) - 3),
    }
    with true_float64(), torch.no_grad():
        recordings = {}
        for kind, queries in asked.items():
            with tl.probe(found.model, queries=queries, per_head=True) as recordings[kind]:
                found.model(**found.inputs)
        for row, inputs in enumerate(found.alone):
            maps = eager_maps(found.model, inputs)
            visual, offset = inputs["input_ids"][0] == image, found.offsets[row]
            for recording in recordings.values():
                places = recording.queries[row] - offset
                expected = maps[:, :, places][..., visual]
                assert (recording.per_head[row] - expected).abs().max() < EXACT
                other = maps[:, :, places - 1][..., visual]
                assert (recording.per_head[row] - other).abs().max() > SEEN
            last = visual.nonzero().max()
            text = torch.arange(int(last) + 1, len(visual)) + offset
            assert torch.equal(recordings["text"].queries[row], text)
            assert len(recordings["positions"].queries[row]) == 2


@EVERY_FAMILY
def test_a_loop_of_the_users_own_is_followed(name):
    found = case(name, RAGGED)
    tokens = tokens_for(found, STEPS - 1)
    with true_float64(), torch.no_grad():
        with tl.probe(found.model, queries="generated", per_head=True) as recording:
            cache = DynamicCache(config=found.model.config.get_text_config())
            found.model(**found.inputs, past_key_values=cache)
            go_on(found.model, found.inputs["attention_mask"], tokens, cache)
        for row, inputs in enumerate(found.alone):
            expected = eager_steps(found.model, inputs, tokens[row])
            assert (recording.per_head[row] - expected).abs().max() < EXACT
    assert recording.token_ids == [[*row, None] for row in tokens.tolist()]


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["Qwen2-VL", "Gemma3", "LLaVA + sliding Mistral"])
def test_float32_implementations_and_caches(name, implementation, cache):
    """More steps than are computed together, and than a sliding window holds."""
    found = case(name, RAGGED)
    model = found.model.float()
    inputs = {
        key: value.float() if value.is_floating_point() else value
        for key, value in found.inputs.items()
    }
    config = model.config.get_text_config()
    before, config._attn_implementation = config._attn_implementation, implementation
    try:
        options = {
            "max_new_tokens": 40,
            "cache_implementation": cache,
            "suppress_tokens": [model.config.image_token_id, 0],
        }
        plain = model.generate(**inputs, **options)
        with tl.probe(model, queries="generated", per_head=True) as recording:
            probed = model.generate(**inputs, **options)
        assert torch.equal(plain, probed)
        for row, alone in enumerate(found.alone):
            alone = {
                key: value.float() if value.is_floating_point() else value
                for key, value in alone.items()
            }
            own = probed[row, inputs["input_ids"].shape[1] : -1]
            expected = eager_steps(model, alone, own)
            assert (recording.per_head[row] - expected).abs().max() < CLOSE
            assert (recording.importance[row] - expected.mean(1)).abs().max() < CLOSE
    finally:
        config._attn_implementation = before
        model.double()


def test_the_first_row_is_the_last_prompt_tokens():
    found = case("Qwen2-VL", RAGGED)
    with tl.probe(found.model) as last, torch.no_grad():
        found.model(**found.inputs)
    with tl.probe(found.model, queries="generated") as generated:
        generate(found)
    for one, other in zip(last.importance, generated.importance, strict=True):
        assert (one - other[:, 0]).abs().max() < CLOSE
        assert one.ndim == 2


def test_an_answer_that_ends_early_has_fewer_rows():
    """A batch is filled up with padding, whose rows are of no token."""
    vlm = tl.load("tiny-qwen2-vl", device="cpu")
    samples = tl.load_samples("scenes")
    images = [samples[index].open_image() for index in range(8)]
    inputs = vlm.prepare(images, [samples[index].question for index in range(8)])
    with tl.probe(vlm, queries="generated") as recording:
        ids = vlm.model.generate(**inputs, max_new_tokens=12)
    written = ids[:, inputs["input_ids"].shape[1] :]
    lengths = {len(row) for row in recording.token_ids}
    assert len(lengths) > 1, "all answers are of one length"
    for row, tokens, rows in zip(
        written.tolist(), recording.token_ids, recording.importance, strict=True
    ):
        assert row[: len(tokens)] == tokens
        assert tokens[-1] == vlm.model.generation_config.eos_token_id
        assert set(row[len(tokens) :]) <= {vlm.model.generation_config.pad_token_id}
        assert rows.shape[:2] == (24, len(tokens))
    texts = [vlm.processor.tokenizer.decode(row) for row in recording.token_ids]
    assert texts == ["".join(row).strip() for row in recording.tokens]


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        ("first", "expected 'last', 'text', 'generated'"),
        ([], "no position"),
        ([0.5], "expected"),
        ([True], "expected"),
        (3, "expected"),
    ],
)
def test_queries_that_are_none_are_refused_at_once(queries, words):
    with (
        pytest.raises(ProbeError, match=rf"\A[^\n]*{words}[^\n]*\Z"),
        tl.probe(case("Qwen2-VL", ONE).model, queries=queries),
    ):
        pass


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        ([999], "not in the prompt"),
        ([0], "of sample 0 is padding"),
        (lambda ids: ids[:2] > 0, "one value per token"),
        (lambda ids: "all", "expected"),
    ],
)
def test_queries_outside_of_a_prompt_are_refused_in_its_forward(queries, words):
    found = case("Qwen2-VL", RAGGED)
    message = rf"\A[^\n]*{words}[^\n]*\Z"
    with (
        tl.probe(found.model, queries=queries),
        torch.no_grad(),
        pytest.raises(ProbeError, match=message),
    ):
        found.model(**found.inputs)


@pytest.mark.filterwarnings("ignore")
def test_assisted_decoding_is_refused_for_generated_rows():
    found = case("Qwen2-VL", ONE)
    message = r"\A[^\n]*does not go with assisted decoding[^\n]*\Z"
    with tl.probe(found.model, queries="generated"):
        with pytest.raises(ProbeError, match=message):
            found.model.generate(**found.inputs, max_new_tokens=3, prompt_lookup_num_tokens=2)
        with pytest.raises(ProbeError, match=message):
            found.model.generate(**found.inputs, max_new_tokens=3, assistant_model=found.model)
    with tl.probe(found.model, queries="text") as recording:
        found.model.generate(**found.inputs, max_new_tokens=3, prompt_lookup_num_tokens=2)
    assert recording.importance[0].ndim == 3


def test_a_prompt_in_pieces_shows_its_last_row_alone():
    found = case("Qwen2-VL", ONE)
    with tl.probe(found.model, queries=[2]), pytest.raises(ProbeError, match="in one forward"):
        found.model.generate(**found.inputs, max_new_tokens=2, prefill_chunk_size=4)


def test_guidance_and_beams_that_go_unreturned_do_not_disturb():
    found = case("LLaVA-1.5", ONE)
    with tl.probe(found.model, queries="generated", per_head=True) as recording:
        probed = generate(found, guidance_scale=1.5)
    assert largest_difference(found, recording, probed) < CLOSE
    with tl.probe(found.model, queries="generated", per_head=True) as recording:
        output = generate(found, num_beams=4, return_dict_in_generate=True)
    assert largest_difference(found, recording, output.sequences) < CLOSE


def test_a_cache_whose_rows_were_moved_is_refused():
    found = case("Qwen2-VL", RAGGED)
    tokens = tokens_for(found, 3)
    with tl.probe(found.model, queries="generated"), torch.no_grad():
        cache = DynamicCache(config=found.model.config.get_text_config())
        found.model(**found.inputs, past_key_values=cache)
        mask = found.inputs["attention_mask"]
        go_on(found.model, mask, tokens[:, :1], cache)
        cache.reorder_cache(torch.tensor([1, 0, 2]))
        with pytest.raises(ProbeError, match=r"\A[^\n]*rows of the cache were moved[^\n]*\Z"):
            go_on(found.model, mask, tokens[:, 1:], cache)


def test_a_step_that_does_not_follow_is_refused_on_reading():
    found = case("Qwen2-VL", ONE)
    with tl.probe(found.model, queries="generated") as recording, torch.no_grad():
        cache = DynamicCache(config=found.model.config.get_text_config())
        found.model(**found.inputs, past_key_values=cache)
        found.model(input_ids=torch.tensor([[11]]), past_key_values=cache)
        cache.crop(-1)
        found.model(input_ids=torch.tensor([[12]]), past_key_values=cache)
        with pytest.raises(ProbeError, match=r"\A[^\n]*did not go on[^\n]*\Z"):
            _ = recording.importance


def test_a_generate_that_was_stopped_has_no_rows():
    found = case("Qwen2-VL", ONE)

    def stop(*_):
        raise RuntimeError("enough")

    with tl.probe(found.model, queries="generated") as recording:
        with pytest.raises(RuntimeError, match="enough"):
            found.model.generate(**found.inputs, max_new_tokens=3, logits_processor=[stop])
        with pytest.raises(ProbeError, match="did not come to its end"):
            _ = recording.importance
        generate(found)
        assert recording.importance[0].shape[1] == STEPS


def test_a_model_without_a_processor_has_no_text():
    found = case("Qwen2-VL", ONE)
    with tl.probe(found.model, queries="text") as recording, torch.no_grad():
        found.model(**found.inputs)
    with pytest.raises(ProbeError, match="needs a tokenizer"):
        _ = recording.tokens
