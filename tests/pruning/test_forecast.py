"""What is forecast from counts alone is what a run reports, to the last multiply-accumulate."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenlens as tl
from tests.support.builders import fake_inputs, tiny_qwen2_5_vl, tiny_qwen2_vl
from tests.support.families import FAMILIES, RAGGED, case
from tests.support.family_plans import plan_for, sampled_plans
from tokenlens.errors import PruningError
from tokenlens.models.prompt_lengths import PromptLengths, prompt_lengths
from tokenlens.models.structure import text_config
from tokenlens.models.vlm import VLM
from tokenlens.pruning.cost.forecast import forecast
from tokenlens.registry import DISPOSALS, SCORERS
from tokenlens.schedule import Schedule, Scorer, Stage

UP_TO_THE_PROMPT = {"raters"}
"""Scorers whose rows are chosen by what the prompt says: forecast at the most they can be."""


def reads_tower(plan):
    """Whether a scorer or disposal reads the vision tower, which a trace counts as scoring too."""
    parts = [SCORERS[plan.scorer.query], *(DISPOSALS[stage.disposal] for stage in plan.stages)]
    return any(getattr(part, "tower", False) for part in parts)


def compare(model, inputs, plan):
    """The trace of a run of one sample against its forecast."""
    prompt = prompt_lengths(VLM.wrap(model), inputs)
    config, size = text_config(model), model.dtype.itemsize
    with torch.no_grad(), tl.prune(model, plan) as trace:
        model(**inputs, logits_to_keep=1)
    cost = trace.cost
    said = forecast(plan.stages, plan.scorer, config, prompt, element_size=size)
    whole = forecast((), plan.scorer, config, prompt, element_size=size)
    assert [list(said.tokens_per_layer)] == trace.tokens_per_layer.tolist()
    assert [list(said.readable_per_layer)] == trace.readable_per_layer.tolist()
    assert [sum(said.macs[:3])] == cost.prefill_macs.tolist()
    assert [said.macs.merging] == cost.merging_macs.tolist()
    if plan.scorer.query in UP_TO_THE_PROMPT:
        assert reads_tower(plan) or 0 < cost.scoring_macs[0] <= said.macs.scoring
    elif reads_tower(plan):
        assert cost.scoring_macs[0] > said.macs.scoring
    else:
        assert [said.macs.scoring] == cost.scoring_macs.tolist()
        assert [said.macs.total] == cost.total_macs.tolist()
    assert [whole.macs.total] == cost.unpruned.total_macs.tolist()
    assert [whole.kv_bytes] == cost.unpruned.kv_bytes.tolist()
    assert whole.keys_exact
    if said.keys_exact:
        assert [said.kv_bytes] == cost.kv_bytes.tolist()
    return said, cost


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_and_every_pair_of_options(name):
    found = case(name, RAGGED)
    plans = sampled_plans(found.family.merges_from)
    inexact = 0
    for number, (stages, scorer) in enumerate(plans[::3]):
        inputs = found.alone[number % len(found.alone)]
        said, cost = compare(found.model, inputs, plan_for(found.model, stages, **scorer))
        inexact += not said.keys_exact
        if not said.keys_exact:
            assert said.kv_bytes == pytest.approx(cost.kv_bytes[0], rel=0.25)
    assert bool(inexact) == found.family.window, "only a window leaves the keys open"


@st.composite
def plans(draw: st.DrawFn, layers: int) -> tuple[list[Stage], Scorer]:
    """Any stages with any scorer and disposal that is registered."""
    count = draw(st.integers(1, min(3, layers)))
    firsts = sorted(draw(st.sets(st.integers(2, layers), min_size=1, max_size=count)))
    query = draw(st.sampled_from(sorted({*SCORERS} - {"recorded"})))
    scorer = Scorer(
        query=query,
        seed=0 if query == "random" else None,
        rotary=draw(st.booleans()),
        softmax=draw(st.sampled_from(["all", "visual"])),
    )
    stages: list[Stage] = []
    for first in firsts:
        returned = bool(stages) and DISPOSALS[stages[-1].disposal].returns
        when = "before" if returned else draw(st.sampled_from(["after", "before"]))
        open_to = [
            name
            for name, found in DISPOSALS.items()
            if first != firsts[-1] or found.readable or not found.returns
        ]
        disposal = draw(st.sampled_from(open_to))
        merge = draw(st.one_of(st.just(0), st.integers(1, 9), st.floats(0.01, 1.0)))
        stages.append(
            Stage(
                score_layer=first - (when == "after"),
                when=when,
                keep=draw(st.one_of(st.floats(0.01, 1.0), st.integers(1, 60), st.just("none"))),
                disposal=disposal,
                merge=merge if DISPOSALS[disposal].settable else 0,
            )
        )
    return stages, scorer


@given(st.data())
@settings(max_examples=60, derandomize=True)
def test_random_models_prompts_and_plans(data):
    build = data.draw(st.sampled_from([tiny_qwen2_vl, tiny_qwen2_5_vl]))
    heads = data.draw(st.sampled_from([1, 2, 4]))
    groups = data.draw(st.sampled_from([group for group in (1, 2, 4) if heads % group == 0]))
    layers = data.draw(st.integers(2, 7))
    model = build(
        layers=layers,
        hidden=data.draw(st.sampled_from([32, 64])),
        heads=heads,
        kv_heads=heads // groups,
        merge=2,
        dtype=data.draw(st.sampled_from([torch.float32, torch.bfloat16])),
    )
    grid = data.draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    inputs = fake_inputs(model, ((grid,),), text=[data.draw(st.integers(1, 20))])
    stages, scorer = data.draw(plans(layers))
    plan = Schedule(
        schema=1,
        method="test",
        model={"architecture": type(model).__name__, "layers": layers},
        scorer=scorer,
        stages=stages,
    )
    compare(model, inputs, plan)


def test_the_comparison_sees_a_token_too_many():
    """A control: another keep, another number of text tokens, another prompt."""
    model = tiny_qwen2_vl(layers=6)
    inputs = fake_inputs(model, (((6, 6),),))
    plan = Schedule.preset("swiftvlm", model, budget="60%", n_visual=36)
    said, _ = compare(model, inputs, plan)
    config, prompt = text_config(model), prompt_lengths(VLM.wrap(model), inputs)
    assert prompt == (3, 36, 6)
    longer = forecast(plan.stages, plan.scorer, config, prompt.with_text(10))
    assert longer.macs.total > said.macs.total
    assert longer.tokens_per_layer == said.tokens_per_layer
    more = [stage.model_copy(update={"keep": 1.0}) for stage in plan.stages]
    assert forecast(more, plan.scorer, config, prompt).macs.total > said.macs.total


def test_what_the_engine_refuses_is_not_forecast():
    config = text_config(tiny_qwen2_vl())
    early = [Stage(score_layer=0, when="after", keep=0.5, disposal="drop")]
    with pytest.raises(PruningError, match=r"stages\[0\].score_layer: got 0"):
        forecast(early, Scorer(), config, PromptLengths(2, 9, 5))
    late = [Stage(score_layer=1, when="after", keep=0.5, disposal="drop")]
    with pytest.raises(PruningError, match="no text after"):
        forecast(late, Scorer(query="text"), config, PromptLengths(2, 9, 0))
