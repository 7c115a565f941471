"""Answers, their costs, and runs that are interrupted, continued and refused."""

import json
from dataclasses import replace
from math import isnan

import pytest
import torch
from PIL import Image

from tests.support.runs import arms, bypass, same
from tokenlens.errors import SampleError
from tokenlens.evaluation.running.evaluate import evaluate
from tokenlens.evaluation.running.generation import answer
from tokenlens.models.batch import Batch


@pytest.mark.parametrize("arm", ["unpruned", "bypass", "random"])
def test_answers_do_not_depend_on_the_batch_size(vlm, samples, arm):
    schedule = arms(vlm)[arm]
    one = evaluate(vlm, samples, schedule, batch_size=1, max_new_tokens=6)
    assert one.rows["prediction"].nunique() > 3
    for batch_size in (4, 9):
        same(one, evaluate(vlm, samples, schedule, batch_size=batch_size, max_new_tokens=6))


def test_an_answer_is_what_greedy_generate_gives(vlm, samples):
    batch = Batch.of(vlm, samples[:3])
    answers = answer(vlm, batch, max_new_tokens=5)
    sequences = vlm.model.generate(**batch.inputs, max_new_tokens=5, do_sample=False)
    expected = vlm.decode(sequences[:, batch.inputs["input_ids"].shape[1] :])
    assert [found.prediction for found in answers] == expected
    assert [found.new_tokens for found in answers] == [5, 5, 5]


def test_the_models_own_sampling_and_penalties_are_set_aside(vlm, samples, monkeypatch):
    plain = evaluate(vlm, samples[:3], max_new_tokens=6)
    settings = {"do_sample": True, "temperature": 5.0, "repetition_penalty": 9.0, "num_beams": 2}
    for name, value in settings.items():
        monkeypatch.setattr(vlm.model.generation_config, name, value)
    same(plain, evaluate(vlm, samples[:3], max_new_tokens=6))
    monkeypatch.setattr(vlm.model.generation_config, "do_sample", False)
    batch = Batch.of(vlm, samples[:3])
    penalised = vlm.model.generate(**batch.inputs, max_new_tokens=6)
    length = batch.inputs["input_ids"].shape[1]
    assert vlm.decode(penalised[:, length:]) != plain.rows["prediction"].to_list()


@pytest.mark.parametrize("arm", ["unpruned", "bypass"])
def test_a_model_that_would_answer_with_a_picture_is_not_let(vlm, samples, arm):
    image = vlm.model.config.image_token_id

    def prefer(_module, _arguments, logits):
        logits[..., image] += 1e4
        return logits

    batch, schedule = Batch.of(vlm, samples[:2]), arms(vlm)[arm]
    plain = answer(vlm, batch, schedule, max_new_tokens=4)
    handle = vlm.model.lm_head.register_forward_hook(prefer)
    try:
        tempted = answer(vlm, batch, schedule, max_new_tokens=4)
    finally:
        handle.remove()
    assert [found.prediction for found in tempted] == [found.prediction for found in plain]


def test_an_answer_ends_with_the_end_of_the_sequence(vlm, samples, monkeypatch):
    batch = Batch.of(vlm, samples[:4])
    length = batch.inputs["input_ids"].shape[1]
    tokens = vlm.model.generate(**batch.inputs, max_new_tokens=6, do_sample=False)[:, length:]
    end = int(tokens[0, 2])
    monkeypatch.setattr(vlm.model.generation_config, "eos_token_id", [end])
    expected = [row.index(end) + 1 if end in row else 6 for row in map(torch.Tensor.tolist, tokens)]
    assert len(set(expected)) > 1
    answers = answer(vlm, batch, max_new_tokens=6)
    assert [found.new_tokens for found in answers] == expected
    rest = vlm.decode([row[:count] for row, count in zip(tokens.tolist(), expected, strict=True)])
    assert [found.prediction for found in answers] == rest


def test_tokens_costs_and_selected_positions_are_those_of_the_trace(vlm, samples):
    schedule = bypass(vlm)
    plain = evaluate(vlm, samples, max_new_tokens=2).rows
    pruned = evaluate(vlm, samples, schedule, max_new_tokens=2).rows
    for index, sample in enumerate(samples):
        ids = vlm.prepare(sample.open_image(), sample.question)["input_ids"][0]
        visual = (ids == vlm.model.config.image_token_id).nonzero()[:, 0].tolist()
        assert plain["positions"][index].tolist() == visual
        assert len(plain["boxes"][index]) == 4 * len(visual)
        assert plain["tokens_per_layer"][index].tolist() == [len(visual)] * 6
        expected = schedule.tokens_entering(len(visual), 6)
        assert pruned["tokens_per_layer"][index].tolist() == expected
        first, last = json.loads(pruned["selected"][index])
        assert set(first) <= set(visual)
        assert set(last) <= set(visual)
        assert len(first) < len(visual)
        assert first == sorted(first)
    assert json.loads(plain["selected"][0]) == []
    assert (plain["scoring_macs"] == 0).all()
    assert (plain["merging_macs"] == 0).all()
    assert (pruned["scoring_macs"] > 0).all()
    assert (pruned["merging_macs"] > 0).all()
    assert (pruned["macs"] < plain["macs"]).all()
    assert (pruned["kv_bytes"] < plain["kv_bytes"]).all()


def test_the_unpruned_cost_is_what_a_trace_says_of_the_unpruned_model(vlm, samples):
    from tokenlens.pruning.engine import prune

    batch = Batch.of(vlm, samples[:3])
    with torch.inference_mode(), prune(vlm, bypass(vlm)) as trace:
        vlm.model(**batch.inputs, use_cache=True)
    answers = answer(vlm, batch, max_new_tokens=2)
    unpruned = trace.cost.unpruned
    assert [found.macs for found in answers] == unpruned.total_macs.tolist()
    assert [found.kv_bytes for found in answers] == unpruned.kv_bytes.tolist()


def test_prefill_and_decode_are_timed_apart(vlm, samples, monkeypatch):
    clock = iter([1.0, 3.0, 9.0])
    monkeypatch.setattr(
        "tokenlens.evaluation.running.generation.time.perf_counter", lambda: next(clock)
    )
    answers = answer(vlm, Batch.of(vlm, samples[:2]), bypass(vlm), max_new_tokens=4)
    assert [(found.prefill_s, found.decode_s) for found in answers] == [(1.0, 3.0)] * 2


def test_the_stopwatch_leaves_no_hook_behind(vlm, samples, monkeypatch):
    def hooks():
        return len(vlm.model._forward_hooks), len(vlm.model._forward_pre_hooks)

    before, batch = hooks(), Batch.of(vlm, samples[:1])
    answer(vlm, batch)
    monkeypatch.setattr(vlm.model.lm_head, "forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        answer(vlm, batch)
    assert hooks() == before


def test_scores_are_taken_per_task_over_all_and_as_macro_average(vlm, samples):
    first = evaluate(vlm, samples, max_new_tokens=3)
    predictions = first.rows["prediction"]
    right = {1, 2, 4}
    samples = [
        replace(sample, answers=(predictions[index] if index in right else "no",))
        for index, sample in enumerate(samples)
    ]
    metrics = evaluate(vlm, samples, max_new_tokens=3).metrics
    assert metrics["score"] == {
        "localisation": 0.0,
        "text": pytest.approx(2 / 3),
        "count": pytest.approx(1 / 3),
        "all": pytest.approx(3 / 9),
        "macro": pytest.approx(1 / 3),
    }
    assert metrics["samples"] == 9
    assert metrics["unscored"] == 0
    assert metrics["tokens"] == pytest.approx(first.tokens_per_layer.mean())
    json.dumps(metrics)


def test_samples_without_ground_truth_are_reported_and_not_counted(vlm, samples):
    samples = [replace(sample, answers=(), boxes=()) for sample in samples]
    samples[1] = replace(samples[1], answers=("never said",))
    results = evaluate(vlm, samples, max_new_tokens=2)
    assert results.metrics["unscored"] == 8
    assert isnan(results.rows["score"][0])
    assert results.metrics["score"] == {
        "localisation": None,
        "text": 0.0,
        "count": None,
        "all": 0.0,
        "macro": 0.0,
    }


def test_a_picture_the_processor_refuses_is_named_with_its_sample(vlm, samples):
    samples[4] = replace(samples[4], image=Image.new("RGB", (2000, 2)), boxes=())
    with pytest.raises(SampleError, match="sample 'sample-4': the processor refused"):
        evaluate(vlm, samples, max_new_tokens=2)
