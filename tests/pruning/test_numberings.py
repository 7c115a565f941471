"""Rotary numbers of new tokens, of which every stage that numbers anew has its own."""

import pytest
import torch

import tokenlens as tl
from tests.support.engine_support import ONE, RAGGED, batch, model64, schedule, stage
from tokenlens.models.structure import decoder

STAGES = (
    stage(1, "after", 0.7, positions="renumber"),
    stage(3, "after", 0.5, positions="renumber"),
    stage(5, "after", 3, positions="renumber"),
)
STEPS = 3


@pytest.fixture
def model():
    return model64()


def decoded(model, inputs, plan):
    """Logits of the steps after a prompt, and how often each called the rotary embedding."""
    rotary, called, found, each = decoder(model).rotary_emb, [], [], []
    own = rotary.forward

    def counted(*args, **kwargs):
        called.append(True)
        return own(*args, **kwargs)

    rotary.forward = counted
    with torch.no_grad(), tl.prune(model, plan):
        output = model(**inputs, use_cache=True)
        for _ in range(STEPS):
            called.clear()
            output = model(
                input_ids=output.logits[:, -1:].argmax(-1), past_key_values=output.past_key_values
            )
            found.append(output.logits)
            each.append(len(called))
    rotary.forward = own
    return torch.stack(found), each


@pytest.mark.parametrize("grids", [ONE, RAGGED], ids=["batch 1", "ragged batch 3"])
def test_one_call_makes_all_numberings(model, grids):
    inputs, plan = batch(model, grids), schedule(*STAGES)
    together, once = decoded(model, inputs, plan)
    decoder(model).rotary_emb.rope_type = "a type that nobody knows"
    apart, often = decoded(model, inputs, plan)
    assert once == [1] * STEPS
    assert often == [1 + len(STAGES)] * STEPS
    assert torch.equal(together, apart)


def test_numbers_matter(model):
    inputs = batch(model, ONE)
    numbered, _ = decoded(model, inputs, schedule(*STAGES))
    kept, _ = decoded(model, inputs, schedule(*(s | {"positions": "keep"} for s in STAGES)))
    assert not torch.allclose(numbered, kept)


def test_a_dynamic_rotary_embedding_is_called_for_each(model):
    rotary = decoder(model).rotary_emb
    rotary.rope_type = "dynamic"
    _, often = decoded(model, batch(model, ONE), schedule(*STAGES))
    assert often == [1 + len(STAGES)] * STEPS
