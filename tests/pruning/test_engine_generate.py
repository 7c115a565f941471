"""Generating on a pruned cache: greedy, sampling, beams, prompt lookup, further turns."""

import pytest
import torch

import tokenlens as tl
from tests.references.reference import Reference, samples_of, true_float64
from tests.support.builders import fake_inputs
from tests.support.engine_support import (
    KEEP_EVERYTHING,
    ONE,
    RAGGED,
    SCHEDULES,
    batch,
    extend,
    model64,
    run,
    schedule,
    stage,
)
from tokenlens.errors import PruningError

STEPS = 8
PLANS = {
    **{name: SCHEDULES[name] for name in ("drop three", "merge three", "bypass three")},
    "renumbered": schedule(
        stage(2, "after", 0.4, "bypass", merge=0.3, positions="renumber"), stage(4, "before", 4)
    ),
    "renumbered three times": schedule(
        *(
            stage(*at, positions="renumber")
            for at in ((1, "after", 0.7), (3, "after", 3), (5, "after", 1))
        )
    ),
}


@pytest.fixture(scope="module")
def model():
    return model64()


def new_tokens(model, inputs, **options):
    found = model.generate(**inputs, **{"max_new_tokens": STEPS, **options})
    return found[:, inputs["input_ids"].shape[1] :]


@pytest.mark.parametrize("grids", [ONE, RAGGED], ids=["batch 1", "ragged batch 3"])
@pytest.mark.parametrize("name", PLANS)
def test_greedy_equals_decoding_by_hand_and_the_reference(model, name, grids):
    inputs, plan = batch(model, grids), PLANS[name]
    with true_float64():
        samples = samples_of(model, inputs)
        with tl.prune(model, plan):
            generated = new_tokens(model, inputs)
        with tl.prune(model, plan):
            first, later, _ = run(model, inputs, generated)
        by_hand = torch.cat([first[:, None], later[:, :-1]], dim=1).argmax(dim=-1)
        assert torch.equal(generated, by_hand)
        for row, sample in enumerate(samples):
            reference = Reference(model, sample, plan)
            expected = [int(reference.logits.argmax())]
            while len(expected) < STEPS:
                expected.append(int(reference.extend(expected[-1:])[-1].argmax()))
            assert generated[row].tolist() == expected
    with torch.no_grad():
        assert not torch.equal(generated, new_tokens(model, inputs)), "pruning changes nothing"


def test_keep_everything_generates_what_the_model_does(model):
    model = model64().float()
    inputs = batch(model)
    expected = new_tokens(model, inputs)
    with tl.prune(model, KEEP_EVERYTHING):
        assert torch.equal(new_tokens(model, inputs), expected)


def test_sampling_draws_from_the_pruned_distribution(model):
    inputs, plan = batch(model), PLANS["bypass three"]
    with tl.prune(model, plan):
        torch.manual_seed(0)
        drawn = new_tokens(model, inputs, do_sample=True, top_k=1)
        assert torch.equal(drawn, new_tokens(model, inputs))
        torch.manual_seed(0)
        first = new_tokens(model, inputs, do_sample=True, temperature=3.0)
        torch.manual_seed(0)
        assert torch.equal(first, new_tokens(model, inputs, do_sample=True, temperature=3.0))


@pytest.mark.parametrize("name", ["drop three", "bypass three", "renumbered"])
def test_beam_search_equals_the_reference(model, name):
    """Every hypothesis of a plain beam search is scored by the reference from its beginning."""
    beams, steps, inputs, plan = 3, 5, batch(model), PLANS[name]
    with true_float64():
        samples = samples_of(model, inputs)
        with tl.prune(model, plan) as trace:
            generated = new_tokens(model, inputs, num_beams=beams, max_new_tokens=steps)
            greedy = new_tokens(model, inputs, max_new_tokens=steps)
            assert not torch.equal(generated, greedy), "beams never leave the greedy path"
            new_tokens(model, inputs, num_beams=beams, max_new_tokens=1)
        assert len(trace.stages[0].selected) == beams * len(samples)
        for row, sample in enumerate(samples):
            hypotheses = [(0.0, [])]
            for _ in range(steps):
                grown = []
                for score, tokens in hypotheses:
                    reference = Reference(model, sample, plan)
                    logits = reference.extend(tokens)[-1] if tokens else reference.logits
                    best = logits.log_softmax(0).topk(beams)
                    grown += [
                        (score + value, [*tokens, token])
                        for value, token in zip(*map(torch.Tensor.tolist, best), strict=True)
                    ]
                hypotheses = sorted(grown, reverse=True)[:beams]
            assert generated[row].tolist() == hypotheses[0][1]


def test_prompt_lookup_equals_greedy(model):
    """Candidates stand after the prompt in the first pass: they must not be taken for its end."""
    inputs, plan = fake_inputs(model, ONE, text=[9], seed=1), PLANS["bypass three"]
    inputs["input_ids"][0, -2:] = inputs["input_ids"][0, -8:-6]
    seen = []
    with tl.prune(model, plan) as trace:
        expected = new_tokens(model, inputs)
        selected = [found.selected[0].tolist() for found in trace.stages]
        handle = model.register_forward_pre_hook(
            lambda _, __, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
        )
        found = new_tokens(model, inputs, prompt_lookup_num_tokens=3)
        handle.remove()
        assert [found.selected[0].tolist() for found in trace.stages] == selected
    assert seen[0] > inputs["input_ids"].shape[1], "no candidate in the first pass"
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", PLANS)
def test_a_further_turn_goes_on_from_the_pruned_cache(model, name):
    """generate(), more text, generate() again, on one cache: what the reference says."""
    inputs, plan = batch(model, ONE), PLANS[name]
    more = torch.tensor([[11, 25, 31, 17]])
    with true_float64():
        (sample,) = samples_of(model, inputs)
        with tl.prune(model, plan) as trace:
            first = model.generate(**inputs, max_new_tokens=3, return_dict_in_generate=True)
            stages = trace.stages
            ids = torch.cat([first.sequences, more], dim=1)
            again = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                past_key_values=first.past_key_values,
                max_new_tokens=4,
            )
            assert trace.stages is stages, "a further turn is no prefill"
        reference = Reference(model, sample, plan)
        length = inputs["input_ids"].shape[1]
        logits = reference.extend(ids[0, length:].tolist())[-1]
        expected = [int(logits.argmax())]
        while len(expected) < 4:
            expected.append(int(reference.extend(expected[-1:])[-1].argmax()))
    assert again[0, ids.shape[1] :].tolist() == expected


def test_cropping_takes_back_what_was_decoded(model):
    inputs, plan = batch(model), PLANS["bypass three"]
    with torch.no_grad(), tl.prune(model, plan):
        tokens = torch.tensor([[11, 12, 13, 14]]).expand(3, -1)
        _, later, cache = run(model, inputs, tokens)
        cache.crop(-2)
        assert cache.get_seq_length() == inputs["input_ids"].shape[1] + 2
        mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 2), value=1)
        again = extend(model, mask, tokens[:, 2:], cache)
        assert torch.equal(again, later[:, 2:])
        cache.crop(-5)  # the last prompt token too: it is text, in every layer
        mask = inputs["attention_mask"][:, :-1]
        last = extend(model, mask, inputs["input_ids"][:, -1:], cache)
        assert torch.isfinite(last).all()
        with pytest.raises(PruningError, match="keys of the prompt"):
            cache.crop(-20)


def test_batches_are_selected_and_repeated(model):
    inputs, plan = batch(model), PLANS["renumbered"]
    token = torch.tensor([[11], [12], [13]])
    with tl.prune(model, plan):
        _, later, _ = run(model, inputs, token)
        _, _, cache = run(model, inputs, token[:, :0])
        cache.batch_repeat_interleave(2)
        cache.batch_select_indices(torch.tensor([5, 0]))
        chosen = [2, 0]
        deltas = model.model.rope_deltas
        model.model.rope_deltas = deltas[chosen]
        again = extend(model, inputs["attention_mask"][chosen], token[chosen], cache)
        model.model.rope_deltas = deltas
    assert torch.allclose(again, later[chosen], atol=1e-9)
