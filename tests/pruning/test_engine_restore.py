"""Leaving a pruning context restores the model, however it is left."""

import pytest
import torch

import tokenlens as tl
from tests.support.engine_support import KEEP_EVERYTHING, SCHEDULES, batch, model64, run, tokens_for
from tests.support.restoring import assert_same, snapshot
from tokenlens.errors import PruningError, ScheduleError

PLAN = SCHEDULES["bypass three"]


@pytest.fixture
def model():
    return model64().float()


def test_the_snapshot_sees_a_hook_and_an_attribute(model):
    """The control: what the other tests rely on."""
    before = snapshot(model)
    handle = model.model.language_model.layers[2].register_forward_pre_hook(lambda *_: None)
    with pytest.raises(AssertionError):
        assert_same(model, before)
    handle.remove()
    assert_same(model, before)
    model.generate = model.generate
    with pytest.raises(AssertionError):
        assert_same(model, before)


def test_while_open_the_snapshot_differs(model):
    before = snapshot(model)
    with tl.prune(model, PLAN), pytest.raises(AssertionError):
        assert_same(model, before)


def test_after_success(model):
    inputs = batch(model)
    expected, _, _ = run(model, inputs, tokens_for(inputs, 0))
    before = snapshot(model)
    with tl.prune(model, PLAN):
        run(model, inputs, tokens_for(inputs, 2))
        model.generate(**inputs, max_new_tokens=2)
    assert_same(model, before)
    again, _, _ = run(model, inputs, tokens_for(inputs, 0))
    assert torch.equal(again, expected)


def test_after_nothing(model):
    before = snapshot(model)
    with tl.prune(model, PLAN) as trace:
        pass
    assert_same(model, before)
    with pytest.raises(PruningError, match="nothing was pruned yet"):
        _ = trace.stages


def test_after_bad_arguments(model):
    before = snapshot(model)
    other = PLAN.replace(model={"architecture": "Other", "layers": 6})
    with pytest.raises(ScheduleError), tl.prune(model, other):
        pass
    assert_same(model, before)
    with pytest.raises(PruningError), tl.prune(model, PLAN):
        model(**batch(model), labels=torch.zeros(1))
    assert_same(model, before)


@pytest.mark.parametrize("layer", [0, 1, 2, 5])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_the_model_raises(model, monkeypatch, layer, error):
    """In a layer that is listened to, one that is scored, and others."""
    inputs = batch(model)

    def stop(*_, **__):
        raise error("stop")

    broken = model.model.language_model.layers[layer].self_attn.o_proj
    with monkeypatch.context() as patch:
        patch.setattr(broken, "forward", stop)
        before = snapshot_without_forward(model, broken)
        with pytest.raises(error), tl.prune(model, PLAN):
            model(**inputs)
        assert snapshot_without_forward(model, broken) == before
    before = snapshot(model)
    with tl.prune(model, PLAN):
        model(**inputs)
    assert_same(model, before)


def snapshot_without_forward(model, broken):
    patched = broken.__dict__.pop("forward")
    found = snapshot(model)
    broken.__dict__["forward"] = patched
    return {name: value for name, value in found.items() if name != "weights"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_context_stays_usable_when_one_call_fails(model, monkeypatch, error):
    inputs = batch(model)
    with tl.prune(model, PLAN) as trace:
        expected, _, _ = run(model, inputs, tokens_for(inputs, 0))
        stages = trace.stages

        def stop(*_, **__):
            raise error("stop")

        with monkeypatch.context() as patch:
            patch.setattr(model.model.language_model.layers[2].mlp, "forward", stop)
            with pytest.raises(error):
                model(**inputs)
        assert trace.stages is stages, "an unfinished prefill is not traced"
        again, _, _ = run(model, inputs, tokens_for(inputs, 0))
    assert torch.equal(again, expected)


def test_an_error_in_the_body_passes_through(model):
    before = snapshot(model)
    with pytest.raises(ZeroDivisionError), tl.prune(model, KEEP_EVERYTHING):
        _ = 1 / 0
    assert_same(model, before)


def test_a_generate_of_the_user_is_put_back(model):
    def mine(*args, **kwargs):
        return type(model).generate(model, *args, **kwargs)

    model.generate = mine
    with tl.prune(model, PLAN):
        assert model.generate is not mine
        model.generate(**batch(model), max_new_tokens=1)
    assert model.generate is mine
