"""Samples without a picture, alone and beside others, whatever prunes: all that is registered.

What pruning does to a prompt without visual tokens is nothing: its logits are the model's own.
"""

import math

import pytest
import torch

import tokenlens as tl
from tests.support.builders import fake_inputs
from tests.support.engine_support import model64, schedule, stage
from tests.support.families import FAMILIES, case
from tokenlens.models.prompt_lengths import PromptLengths
from tokenlens.pruning.cost.forecast import forecast
from tokenlens.pruning.cost.report import cost_report
from tokenlens.registry import DISPOSALS, METHODS, SCORERS

STEPS = 2
BATCHES = {
    "alone": ((),),
    "among pictures": (((3, 4),), (), ((2, 2), (4, 5))),
}


@pytest.fixture(scope="module")
def model():
    return model64()


def made(model, grids):
    """Inputs of such pictures; without any, there are no pixels either."""
    inputs = fake_inputs(model, grids, seed=2)
    if not any(grids):
        del inputs["pixel_values"], inputs["image_grid_thw"]
    return inputs


@torch.no_grad()
def logits_and_tokens(model, inputs):
    """The last logits of the prompt, and what greedy decoding then writes."""
    tokens = model.generate(**inputs, max_new_tokens=STEPS)
    return model(**inputs).logits[:, -1], tokens


def assert_text_is_untouched(model, plan, grids, recorded=None):
    inputs = made(model, grids)
    logits, tokens = logits_and_tokens(model, inputs)
    with tl.prune(model, plan, recorded=recorded) as trace:
        found, written = logits_and_tokens(model, inputs)
    for row, pictures in enumerate(grids):
        difference = (found[row] - logits[row]).abs().max()
        if pictures:
            assert difference > 1e-6, "nothing was pruned"
            continue
        assert difference < 1e-9
        assert torch.equal(written[row], tokens[row])
        assert trace.tokens_per_layer[row].sum() == 0
        cost, scoring = trace.cost, trace.cost.scoring_macs[row]
        assert cost.total_macs[row] - scoring == cost.unpruned.total_macs[row]
        assert [len(one.selected[row]) for one in trace.stages] == [0] * len(trace.stages)
    assert torch.isfinite(found).all()
    for figures in (trace.cost.total_macs, trace.cost.scoring_macs, trace.cost.merging_macs):
        assert torch.isfinite(torch.as_tensor(figures)).all()


def stages_of(disposal, first="after"):
    """A stage that disposes so, and one that takes back what may come back."""
    merging = {"merge": 0.2} if DISPOSALS[disposal].settable else {}
    return stage(2, first, 0.5, disposal, **merging), stage(4, "before", 0.3)


@pytest.mark.parametrize("grids", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("disposal", DISPOSALS)
@pytest.mark.parametrize("query", SCORERS)
def test_every_scorer_and_disposal(model, query, disposal, grids):
    options = {"recorded": {"layer": 3}, "random": {"seed": 1}}.get(query, {})
    plan = schedule(*stages_of(disposal), query=query, **options)
    with tl.probe(model) as recording, torch.no_grad():
        model(**made(model, grids))
    recorded = recording.importance if query == "recorded" else None
    assert_text_is_untouched(model, plan, grids, recorded)


@pytest.mark.parametrize("grids", [BATCHES["alone"], BATCHES["among pictures"]])
@pytest.mark.parametrize(
    "options",
    [
        {"heads": 2},
        {"softmax": "visual"},
        {"rotary": False},
        {"query": "random", "seed": 3},
    ],
)
def test_every_way_to_score(model, options, grids):
    plan = schedule(*stages_of("bypass", "before"), **options)
    assert_text_is_untouched(model, plan, grids)
    renumbered = [one | {"positions": "renumber"} for one in stages_of("drop")]
    assert_text_is_untouched(model, schedule(*renumbered, **options), grids)
    masses = stage(2, "after", 0.4, stride=2), stage(4, "before", 0.2)
    assert_text_is_untouched(model, schedule(*masses, **options), grids)


@pytest.fixture(scope="module")
def bundled():
    return tl.load("tiny-qwen2-vl", device="cpu")


@pytest.mark.parametrize("method", METHODS)
def test_every_preset(bundled, method):
    vlm, sample = bundled, tl.load_samples("scenes")[0]
    plan = tl.Schedule.preset(method, vlm, budget="33%")
    question = "what colour is a banana ?"
    alone = vlm.prepare([[]], [question])
    both = vlm.prepare(
        [[sample.open_image()], []], [sample.question, question], picture=plan.picture
    )
    with torch.no_grad():
        expected = vlm.model(**alone).logits[0, -1]
        beside = vlm.model(**both).logits[1, -1]
    with tl.prune(vlm, plan) as trace, torch.no_grad():
        assert (vlm.model(**alone).logits[0, -1] - expected).abs().max() < 1e-4
        assert trace.tokens_per_layer.tolist() == [[0] * vlm.layers]
        vlm.model.generate(**alone, max_new_tokens=2)
        assert (vlm.model(**both).logits[1, -1] - beside).abs().max() < 1e-4
        assert trace.tokens_per_layer[1].tolist() == [0] * vlm.layers
        assert trace.tokens_per_layer[0].sum() > 0
        assert torch.isfinite(torch.as_tensor(trace.cost.total_macs)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_layouts_and_recordings_of_every_family(family):
    found = case(family, ((0,),))
    ids = torch.tensor([[11, 12, 13, 14]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    vlm = tl.VLM.wrap(found.model)
    (layout,) = vlm.layout(inputs)
    assert layout.positions.shape == (0,)
    assert layout.boxes.shape == (0, 4)
    assert layout.frame.tolist() == []
    with tl.probe(vlm) as recording, torch.no_grad():
        found.model(**inputs)
    assert recording.importance[0].shape == (vlm.layers, 0)


@pytest.mark.parametrize("method", METHODS)
def test_forecasts_of_text_alone(bundled, method):
    """No visual token is a count like any other: no division by it, no cost of scoring."""
    plan = tl.Schedule.preset(method, bundled, budget="33%")
    prompt = PromptLengths(before=4, visual=0, after=9)
    config = bundled.decoder_config
    pruned = forecast(plan.stages, plan.scorer, config, prompt)
    unpruned = forecast((), plan.scorer, config, prompt)
    assert pruned.average == 0
    assert set(pruned.tokens_per_layer) == {0}
    assert pruned.kv_bytes == unpruned.kv_bytes
    assert pruned.macs.total - pruned.macs.scoring == unpruned.macs.total
    report = cost_report(plan, bundled, prompt)
    assert report.as_json()["average"] == 0
    figures = [(row.pruned, row.unpruned) for row in report.published]
    assert all(math.isfinite(figure) for pair in figures for figure in pair)
