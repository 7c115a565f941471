"""Generating on a pruned cache, for every family: against decoding by hand and the reference."""

import pytest
import torch

import tokenlens as tl
from tests.references.full_length import FullLength
from tests.support.comparing import read, references
from tests.support.families import FAMILIES, ONE, RAGGED, case
from tests.support.family_models import PAD
from tests.support.family_plans import named_plans, plan_for
from tests.support.true_float64 import true_float64

STEPS = 8
SINGLES = ((0,), (1,), (2,))
"""One picture each: transformers mixes up the pictures of several when it repeats a batch."""
EVERY_FAMILY = pytest.mark.parametrize("name", FAMILIES)


def planned(name, sizes):
    found = case(name, sizes)
    return found, plan_for(found.model, named_plans(found.family.merges_from)["bypass three"])


def new_tokens(found, **options):
    tokens = found.model.generate(**found.inputs, **{"max_new_tokens": STEPS, **options})
    return tokens[:, found.inputs["input_ids"].shape[1] :]


def greedy(reference, steps, tokens=()):
    """What the reference writes after `tokens`."""
    logits = reference.extend(tokens)[-1] if tokens else reference.logits
    found = [int(logits.argmax())]
    while len(found) < steps:
        found.append(int(reference.extend(found[-1:])[-1].argmax()))
    return found


@EVERY_FAMILY
def test_greedy_equals_decoding_by_hand_and_the_reference(name):
    found, plan = planned(name, RAGGED)
    with torch.no_grad(), true_float64():
        with tl.prune(found.model, plan):
            generated = new_tokens(found)
        with tl.prune(found.model, plan):
            logits, _ = read(found.model, found.inputs, generated)
        assert torch.equal(generated, logits[:, :-1].argmax(dim=-1))
        for row, reference in enumerate(references(found, plan)):
            assert generated[row].tolist() == greedy(reference, STEPS)
        assert not torch.equal(generated, new_tokens(found)), "pruning changes nothing"


@EVERY_FAMILY
def test_a_further_turn_goes_on_from_the_pruned_cache(name):
    found, plan = planned(name, ONE)
    more = torch.tensor([[11, 25, 31, 17]])
    length = found.inputs["input_ids"].shape[1]
    with torch.no_grad(), true_float64():
        with tl.prune(found.model, plan) as trace:
            first = found.model.generate(
                **found.inputs, max_new_tokens=3, return_dict_in_generate=True
            )
            stages = trace.stages
            ids = torch.cat([first.sequences, more], dim=1)
            again = found.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                past_key_values=first.past_key_values,
                max_new_tokens=4,
            )
            assert trace.stages is stages, "a further turn is no prefill"
        (reference,) = references(found, plan)
        expected = greedy(reference, 4, ids[0, length:].tolist())
    assert again[0, ids.shape[1] :].tolist() == expected


@EVERY_FAMILY
def test_a_written_image_token_in_a_further_turn_is_text(name):
    """A random model may have written one at the end of its answer."""
    found, plan = planned(name, ONE)
    ids, image = found.inputs["input_ids"], found.model.config.image_token_id
    length = ids.shape[1]
    ids = torch.cat([ids, torch.tensor([[11, image, 12, 13]])], dim=1)
    with torch.no_grad(), true_float64():
        with tl.prune(found.model, plan):
            _, cache = read(found.model, found.inputs, ids[:, length : length + 1])
            again = found.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                past_key_values=cache,
                max_new_tokens=4,
            )
        (reference,) = references(found, plan)
        expected = greedy(reference, 4, ids[0, length:].tolist())
    assert again[0, ids.shape[1] :].tolist() == expected


@EVERY_FAMILY
def test_sampling_is_seeded(name):
    found, plan = planned(name, ONE)
    with torch.no_grad(), tl.prune(found.model, plan):
        assert torch.equal(new_tokens(found, do_sample=True, top_k=1), new_tokens(found))
        drawn = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            drawn.append(new_tokens(found, do_sample=True, temperature=3.0, top_k=0))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def repeating(name):
    """A prompt that ends as it went on before, so that lookup has candidates for its first pass."""
    found, plan = planned(name, ONE)
    ids = found.inputs["input_ids"]
    ids[0, -2:] = ids[0, -5:-3]
    return found, plan, ids


def test_why_prompt_lookup_is_not_compared_for_paligemma():
    """transformers counts the candidates to PaliGemma's prefix, which then sees them, unpruned."""
    found, _, _ = repeating("PaliGemma")
    seen = []
    handle = found.model.register_forward_hook(lambda _, __, output: seen.append(output.logits[0]))
    with torch.no_grad():
        new_tokens(found, max_new_tokens=4)
        alone = seen[0][0]
        seen.clear()
        new_tokens(found, max_new_tokens=4, prompt_lookup_num_tokens=3)
        among_candidates = seen[0][0]
    handle.remove()
    assert (alone - among_candidates).abs().max() > 1e-3


@pytest.mark.parametrize("name", [name for name in FAMILIES if not name.startswith("PaliGemma")])
def test_prompt_lookup_equals_greedy(name):
    """Candidates stand after the prompt in the first pass: they must not be taken for its end."""
    found, plan, ids = repeating(name)
    seen = []
    with torch.no_grad(), tl.prune(found.model, plan) as trace:
        expected = new_tokens(found)
        selected = [at.selected[0].tolist() for at in trace.stages]
        handle = found.model.register_forward_pre_hook(
            lambda _, __, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
        )
        written = new_tokens(found, prompt_lookup_num_tokens=3)
        handle.remove()
        assert [at.selected[0].tolist() for at in trace.stages] == selected
    assert seen[0] > ids.shape[1], "no candidate in the first pass"
    assert torch.equal(written, expected)


@pytest.mark.parametrize("name", ["Gemma3", "InternVL", "LLaVA-NeXT", "PaliGemma"])
def test_beam_search_equals_the_reference(name):
    """Every hypothesis of a plain beam search is scored by the reference."""
    beams, steps = 3, 4
    found, plan = planned(name, SINGLES)
    with torch.no_grad(), true_float64():
        with tl.prune(found.model, plan):
            generated = new_tokens(found, num_beams=beams, max_new_tokens=steps)
            assert not torch.equal(generated, new_tokens(found, max_new_tokens=steps))
        for row, start in enumerate(references(found, plan)):
            hypotheses = [(0.0, [], start, start.logits)]
            for _ in range(steps):
                grown = [
                    (score + value, [*tokens, token], reference)
                    for score, tokens, reference, logits in hypotheses
                    for value, token in zip(
                        *map(torch.Tensor.tolist, logits.log_softmax(0).topk(beams)), strict=True
                    )
                ]
                best = sorted(grown, key=lambda one: one[0], reverse=True)[:beams]
                hypotheses = []
                for score, tokens, reference in best:
                    fork = reference.fork()
                    hypotheses.append((score, tokens, fork, fork.extend(tokens[-1:])[-1]))
            assert generated[row].tolist() == hypotheses[0][1]
    assert (generated != PAD).any()


@EVERY_FAMILY
def test_gradients_equal_those_of_the_reference(name):
    """Of every weight, vision tower and merged tokens included."""
    found, plan = planned(name, ONE)
    model, weights = found.model, dict(found.model.named_parameters())

    def gradients(logits):
        direction = torch.linspace(-1, 1, logits.shape[-1], dtype=torch.float64)
        found = torch.autograd.grad(logits @ direction, [*weights.values()], allow_unused=True)
        return {
            name: gradient
            for name, gradient in zip(weights, found, strict=True)
            if gradient is not None
        }

    def furthest(one, other):
        assert one.keys() == other.keys()
        scale = max(float(gradient.abs().max()) for gradient in other.values())
        return max(float((one[key] - other[key]).abs().max()) for key in one) / scale

    with true_float64():
        with tl.prune(model, plan):
            pruned = gradients(model(**found.inputs).logits[0, -1])
        expected = gradients(FullLength(model, found.alone[0], plan).logits)
        unpruned = gradients(model(**found.inputs).logits[0, -1])
    assert any("vision" in name and pruned[name].abs().max() > 0 for name in pruned) or any(
        "visual" in name and pruned[name].abs().max() > 0 for name in pruned
    )
    assert furthest(pruned, expected) < 1e-10
    assert furthest(pruned, unpruned) > 1e-4, "the control is not seen"
