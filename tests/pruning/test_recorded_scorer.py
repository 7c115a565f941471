"""Pruning by what the unpruned model saw, and pruning everything."""

import numpy as np
import pytest
import torch
from PIL import Image

import tokenlens as tl
from tests.support.builders import save_model_directory
from tests.support.engine_support import (
    ONE,
    RAGGED,
    batch,
    model64,
    run,
    schedule,
    stage,
    tokens_for,
)
from tokenlens.errors import PruningError, ScheduleError
from tokenlens.evaluation.running.generation import Prepared
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.schedule import ModelRef, Schedule, Scorer, Stage

LAYER = 5


def record(model, inputs):
    with tl.probe(model) as recording, torch.no_grad():
        model(**inputs)
    return recording


@pytest.mark.parametrize("grids", [ONE, RAGGED], ids=["batch 1", "ragged batch 3"])
def test_the_recorded_layer_chooses(grids):
    model = model64()
    inputs = batch(model, grids)
    recording = record(model, inputs)
    plan = schedule(stage(2, "after", 0.3), stage(4, "before", 2), query="recorded", layer=LAYER)
    with tl.prune(model, plan, recorded=recording.importance) as trace, torch.no_grad():
        model(**inputs)
    for sample, (importance, positions) in enumerate(
        zip(recording.importance, recording.positions, strict=True)
    ):
        for place, keep in enumerate((max(1, int(0.3 * len(positions) + 0.5)), 2)):
            order = importance[LAYER - 1].argsort(descending=True, stable=True)[:keep]
            assert (
                trace.stages[place].selected[sample].tolist()
                == positions[order.sort().values].tolist()
            )
        other = importance[0].argsort(descending=True, stable=True)[:2]
        assert trace.stages[1].selected[sample].tolist() != positions[other.sort().values].tolist()


@pytest.mark.parametrize(
    ("recorded", "said"),
    [(None, "got none"), ([], "got 0"), ([torch.zeros(6, 3)], "of 3 visual tokens")],
)
def test_recorded_importance_must_be_of_these_samples(recorded, said):
    model = model64()
    inputs = batch(model, ONE)
    plan = schedule(stage(2, "after", 0.3), query="recorded", layer=LAYER)
    with (
        tl.prune(model, plan, recorded=recorded),
        pytest.raises(PruningError, match=said),
        torch.no_grad(),
    ):
        model(**inputs)


@pytest.mark.parametrize(
    "scorer", [{"query": "recorded"}, {"layer": 3}, {"query": "recorded", "layer": 7}]
)
def test_a_layer_is_of_recorded_and_of_the_model(scorer):
    with pytest.raises(ScheduleError, match="layer"):
        schedule(stage(2, "after", 0.3), **scorer)


@pytest.mark.parametrize("grids", [ONE, RAGGED], ids=["batch 1", "ragged batch 3"])
def test_with_none_kept_the_text_goes_on_alone(grids):
    """From layer 3 on the model is deaf to the picture: other layers 1 and 2 are all that tell."""
    model = model64()
    inputs = batch(model, grids)
    tokens = tokens_for(inputs, 3)
    plan = schedule(stage(2, "after", "none"), query="random", seed=0)
    with tl.prune(model, plan) as trace:
        first, later, _ = run(model, inputs, tokens)
    assert trace.tokens_per_layer[:, 2:].eq(0).all()
    assert trace.tokens_per_layer[:, :2].gt(0).all()
    assert [len(selected) for selected in trace.stages[0].selected] == [0] * len(grids)
    expected_first, expected_later = hidden_from(model, inputs, tokens, 3)
    assert (first - expected_first).abs().max() < 1e-10
    assert (later - expected_later).abs().max() < 1e-10
    other_first, _ = hidden_from(model, inputs, tokens, 4)
    assert (first - other_first).abs().max() > 1e-6


def hidden_from(model, inputs, tokens, first_layer, gone=None):
    """The same model at full length, the keys of `gone` hidden from `first_layer` on.

    By default all visual keys are; the rows of hidden tokens are read by nobody.
    """
    visual = inputs["input_ids"] == model.config.image_token_id if gone is None else gone

    def hide(module, args, kwargs):
        queries = args[0].shape[1]
        cache = kwargs["past_key_values"]
        keys = cache.get_seq_length(module.self_attn.layer_idx) + queries
        mask = kwargs["attention_mask"]
        if mask is None:
            rows = torch.arange(keys - queries, keys)[:, None]
            mask = (torch.arange(keys) <= rows)[None, None]
        seen = torch.nn.functional.pad(~visual, (0, keys - visual.shape[1]), value=True)
        return args, {**kwargs, "attention_mask": mask & seen[:, None, None]}

    layers = model.model.language_model.layers[first_layer - 1 :]
    handles = [layer.register_forward_pre_hook(hide, with_kwargs=True) for layer in layers]
    try:
        return run(model, inputs, tokens)[:2]
    finally:
        for handle in handles:
            handle.remove()


def test_another_importance_is_recorded_for_the_schedule_that_names_it(tmp_path):
    """Answers are those of a probe by hand; attention's choice is the control."""
    vlm = tl.load(str(save_model_directory(tmp_path / "model")))
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    sample = tl.Sample(id="0", image=Image.fromarray(pixels), question="where is A ?", task="a")
    model = ModelRef.of(vlm)
    prepared, chosen = Prepared(vlm, [sample]), {}
    for name in (None, "value-weighted", "gradient", "occlusion"):
        scorer = Scorer(query="recorded", layer=2, importance=name)
        stages = [Stage(score_layer=2, when="after", keep=5, disposal="drop")]
        one = Schedule(schema=1, method="m", model=model, scorer=scorer, stages=stages)
        assert one.schema_version == (1 if name is None else 3)
        one.save(tmp_path / "schedule.json")
        assert Schedule.load(tmp_path / "schedule.json") == one
        with (
            tl.probe(vlm, importance=name or "attention") as recording,
            torch.inference_mode(),
        ):
            vlm.model(**vlm.prepare(sample.open_image(), sample.question))
        order = recording.importance[0][1].argsort(descending=True, stable=True)[:5]
        answer = prepared.answer(one, RunOptions(max_new_tokens=1))[0]
        assert answer.selected == [recording.positions[0][order].sort().values.tolist()]
        chosen[name] = answer.selected
    assert chosen["gradient"] != chosen[None]
    assert chosen["occlusion"] != chosen[None]


@pytest.mark.parametrize(
    ("scorers", "words"),
    [
        ([{"query": "last", "importance": "gradient"}] * 2, "expected query 'recorded'"),
        ([{"query": "recorded", "layer": 1, "importance": "gradint"}] * 2, "did you mean 'grad"),
        (
            [
                {"query": "recorded", "layer": 1, "importance": "gradient"},
                {"query": "recorded", "layer": 1},
            ],
            "got attention, gradient, expected the same of all stages",
        ),
    ],
)
def test_importances_that_do_not_go_together_are_refused(scorers, words):
    stages = [
        {"score_layer": 1 + index, "when": "after", "keep": 0.5, "disposal": "drop", "scorer": one}
        for index, one in enumerate(scorers)
    ]
    model = {"architecture": "LlamaForCausalLM", "layers": 4}
    with pytest.raises(ScheduleError, match=words):
        Schedule(schema=1, method="m", model=model, scorer=scorers[0], stages=stages)
