"""Leaving a probe or a pruning context restores every family's model, however it is left."""

import pytest
import torch

import tokenlens as tl
from tests.support.families import FAMILIES, ONE, case
from tests.support.family_plans import named_plans, plan_for
from tests.support.restoring import assert_same, snapshot
from tokenlens.errors import ProbeError, PruningError


def raising(error):
    def stop(*_):
        raise error("stop")

    return stop


def contexts(found):
    plan = plan_for(found.model, named_plans(found.family.merges_from)["bypass three"])
    return (
        (lambda: tl.prune(found.model, plan), PruningError),
        (lambda: tl.probe(found.model), ProbeError),
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_everything_is_restored(name):
    found = case(name, ONE)
    model, inputs = found.model, found.inputs
    with torch.no_grad():
        expected = model(**inputs).logits
    before = snapshot(model)
    for context, refusal in contexts(found):
        with context():
            with pytest.raises(AssertionError):
                assert_same(model, before)
            model.generate(**inputs, max_new_tokens=2)
        assert_same(model, before)

        with pytest.raises(refusal), context():
            model(inputs_embeds=torch.zeros(1, 4, 32, dtype=torch.float64))
        assert_same(model, before)

        for error in (RuntimeError, KeyboardInterrupt):
            for part in ("self_attn", "mlp"):
                module = model.get_decoder().layers[3].get_submodule(part)
                handle = module.register_forward_pre_hook(raising(error))
                with pytest.raises(error), context():
                    model(**inputs)
                handle.remove()
                assert_same(model, before)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, expected)
