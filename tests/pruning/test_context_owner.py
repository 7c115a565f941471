"""A context is of the thread or task that opened it: another one's forward is refused, or its own.

The hooks of `prune` sit on modules that all threads share.
"""

import asyncio
import threading
from contextvars import copy_context

import pytest
import torch
from transformers import TextIteratorStreamer

import tokenlens as tl
from tests.support.engine_support import ONE, batch, model64
from tokenlens.errors import ProbeError, PruningError
from tokenlens.registry import METHODS


@pytest.fixture(scope="module")
def model():
    return model64().float()


@pytest.fixture(scope="module")
def inputs(model):
    return batch(model, ONE)


def preset(method, model):
    return tl.Schedule.preset(method, model, budget="60%")


def in_thread(call):
    """What `call` gives in a thread of its own, or the error that it raises there."""
    found = []

    def run():
        try:
            found.append(call())
        except Exception as error:  # noqa: BLE001 - whatever it is, the test judges it
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def assert_refused(error):
    assert isinstance(error, PruningError), error
    assert "thread" in str(error)
    assert "\n" not in str(error)


def bundled():
    return tl.load("tiny-qwen2-vl", device="cpu")


def test_every_preset_refuses_a_thread_that_opened_no_context():
    vlm = bundled()
    sample = tl.load_samples("scenes")[0]
    inputs = vlm.prepare(sample.open_image(), sample.question)
    expected = vlm.model(**inputs).logits
    for method in METHODS:
        with tl.prune(vlm, preset(method, vlm)):
            assert_refused(in_thread(lambda: vlm.model(**inputs)))
            assert_refused(in_thread(lambda: vlm.model.generate(**inputs, max_new_tokens=2)))
            assert_refused(in_thread(lambda: vlm.model.model(**inputs)))
    assert torch.equal(in_thread(lambda: vlm.model(**inputs).logits), expected)


def test_a_refused_thread_does_not_disturb_the_one_that_is_pruned(model, inputs, monkeypatch):
    mlp = model.model.language_model.layers[2].mlp
    original, errors = mlp.forward, []

    def meanwhile(*args, **kwargs):
        errors.append(in_thread(lambda: model(**inputs)))
        errors.append(in_thread(lambda: model.model(**inputs)))
        errors.append(in_thread(lambda: model.generate(**inputs, max_new_tokens=2)))
        return original(*args, **kwargs)

    for method in ("stride", "swiftvlm", "visionzip"):
        with torch.no_grad(), tl.prune(model, preset(method, model)) as trace:
            expected = model(**inputs).logits
            selected = trace.stages[0].selected[0]
            with monkeypatch.context() as patch:
                patch.setattr(mlp, "forward", meanwhile)
                found = model(**inputs).logits
            assert torch.equal(found, expected)
            assert torch.equal(trace.stages[0].selected[0], selected)
    assert len(errors) == 9
    for error in errors:
        assert_refused(error)


@pytest.mark.parametrize("method", ["swiftvlm", "stride", "visionzip"])
def test_streaming_works_where_the_context_is_opened_in_the_thread(method):
    vlm = bundled()
    sample = tl.load_samples("scenes")[0]
    inputs = vlm.prepare(sample.open_image(), sample.question)
    options = {"max_new_tokens": 8, "do_sample": False}
    with tl.prune(vlm, preset(method, vlm)):
        tokens = vlm.model.generate(**inputs, **options)
    expected = vlm.decode(tokens[:, inputs["input_ids"].shape[1] :])[0]
    streamer = TextIteratorStreamer(
        vlm.processor.tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=60
    )
    errors = []

    def work():
        try:
            with tl.prune(vlm, preset(method, vlm)):
                vlm.model.generate(**inputs, **options, streamer=streamer)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test judges it
            errors.append(error)
            streamer.end()

    thread = threading.Thread(target=work)
    thread.start()
    streamed = "".join(streamer)
    thread.join()
    assert not errors
    assert streamed.strip() == expected


def test_tasks_on_one_thread_have_contexts_of_their_own(model, inputs):
    """A task that was there before the context was opened is none of its business."""
    opened, done, found = asyncio.Event(), asyncio.Event(), []

    async def other():
        await opened.wait()
        try:
            found.append(model(**inputs).logits)
        except PruningError as error:
            found.append(error)
        done.set()

    async def main():
        task = asyncio.create_task(other())
        await asyncio.sleep(0)
        with tl.prune(model, preset("stride", model)), torch.no_grad():
            opened.set()
            await done.wait()
            child = asyncio.create_task(asyncio.to_thread(lambda: model(**inputs).logits))
            found.append(await child)
            found.append(model(**inputs).logits)
        await task

    asyncio.run(main())
    assert_refused(found[0])
    assert torch.equal(found[1], found[2]), "started within, with a copy of the context"
    assert found[2].shape[1] < inputs["input_ids"].shape[1]


def test_copies_of_a_context_run_one_at_a_time(model, inputs, monkeypatch):
    """A copied context belongs to what opened it, but only one forward pass fits in it."""
    mlp = model.model.language_model.layers[2].mlp
    original, found = mlp.forward, []

    def meanwhile(*args, **kwargs):
        monkeypatch.setattr(mlp, "forward", original)
        copied = copy_context()
        found.append(in_thread(lambda: copied.run(lambda: model(**inputs))))
        return original(*args, **kwargs)

    with torch.no_grad(), tl.prune(model, preset("stride", model)):
        monkeypatch.setattr(mlp, "forward", meanwhile)
        model(**inputs)
    assert_refused(found[0])
    with torch.no_grad(), tl.probe(model) as recording:
        model(**inputs)
        expected = recording.importance[0]
        monkeypatch.setattr(mlp, "forward", meanwhile)
        model(**inputs)
        assert torch.equal(recording.importance[0], expected)
    assert isinstance(found[1], ProbeError)
    assert "another thread" in str(found[1])


def test_a_probe_is_of_its_own_thread(model, inputs):
    with torch.no_grad(), tl.probe(model) as recording:
        in_thread(lambda: model(**inputs))
        with pytest.raises(ProbeError, match="in the thread that opened it"):
            _ = recording.importance
        model(**inputs)
        expected = recording.importance[0]
        other = batch(model, (((2, 2),),))
        in_thread(lambda: model.generate(**other, max_new_tokens=2))
        assert torch.equal(recording.importance[0], expected)

    def probing():
        with torch.no_grad(), tl.probe(model) as own:
            model(**inputs)
        return own.importance[0]

    assert torch.equal(in_thread(probing), expected)

    async def within():
        with torch.no_grad(), tl.probe(model) as own:
            await asyncio.to_thread(lambda: model(**inputs))
        return own.importance[0]

    assert torch.equal(asyncio.run(within()), expected)
