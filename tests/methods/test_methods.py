"""The tokens every preset chooses are those of its published rule, on two families of models."""

import math
from functools import partial

import pytest
import torch

import tokenlens as tl
from tests.references.published_rules import (
    Reading,
    divprune,
    fastv,
    feather,
    first_ones,
    pdrop,
    sparsevlm,
    sparsevlm_plus,
    stride,
)
from tests.support.comparing import compare
from tests.support.families import RAGGED, case
from tests.support.family_models import LAYERS
from tokenlens.errors import BudgetError
from tokenlens.schedule import ModelRef, Schedule

FAMILIES = pytest.mark.parametrize("family", ["Qwen2-VL", "LLaVA-1.5"])
FIRSTS = (3, 4, 5)
"""Where pdrop's stages are in models of six layers."""


def chosen_by_engine(found, plan):
    """For every sample and stage, the places in the prompt of the tokens that go on."""
    with torch.no_grad(), tl.prune(found.model, plan) as trace:
        found.model(**found.inputs)
    return [
        [(stage.selected[row] - offset).tolist() for stage in trace.stages]
        for row, offset in enumerate(found.offsets)
    ]


def chosen_by_rule(found, plan, rule):
    """The same, by a rule that is told how many tokens each stage keeps."""
    choices = []
    for inputs in found.alone:
        reading = Reading(found.model, inputs)
        n_visual = int(reading.visual.sum())
        counts = [max(1, math.floor(stage.keep * n_visual + 0.5)) for stage in plan.stages]
        choices.append(rule(reading, counts))
    return choices


def one(rule, **options):
    """A rule of one stage."""
    return lambda reading, counts: rule(reading, *counts, **options)


RULES = {
    "fastv": (one(fastv, all_rows=False), one(fastv, all_rows=True)),
    "fastv-paper": (one(fastv, all_rows=True), one(fastv, all_rows=False)),
    "pdrop": (
        partial(pdrop, firsts=FIRSTS, renumber=True),
        partial(pdrop, firsts=FIRSTS, renumber=False),
    ),
    "pdrop-keep-positions": (
        partial(pdrop, firsts=FIRSTS, renumber=False),
        partial(pdrop, firsts=FIRSTS, renumber=True),
    ),
    "feather": (
        partial(feather, layers=(2, 3), rotary=False, grid=True),
        partial(feather, layers=(2, 3), rotary=True, grid=True),
    ),
    "feather's grid": (
        partial(feather, layers=(2, 3), rotary=False, grid=True),
        partial(feather, layers=(2, 3), rotary=False, grid=False),
    ),
    "stride": (one(stride), one(first_ones)),
    "sparsevlm": (
        partial(sparsevlm, layers=(1, 2, 3), cluster=True, rate=True),
        partial(sparsevlm, layers=(1, 2, 3), cluster=False, rate=True),
    ),
    "sparsevlm's raters": (
        partial(sparsevlm, layers=(1, 2, 3), cluster=True, rate=True),
        partial(sparsevlm, layers=(1, 2, 3), cluster=True, rate=False),
    ),
    "sparsevlm-plus": (
        partial(sparsevlm_plus, layers=(1, 2, 3), heads=2, divide=True),
        partial(sparsevlm_plus, layers=(1, 2, 3), heads=2, divide=False),
    ),
    "sparsevlm-plus's heads": (
        partial(sparsevlm_plus, layers=(1, 2, 3), heads=2, divide=True),
        partial(sparsevlm_plus, layers=(1, 2, 3), heads=4, divide=True),
    ),
    "sparsevlm-plus's positions": (
        partial(sparsevlm_plus, layers=(1, 2, 3), heads=2, divide=True),
        partial(sparsevlm_plus, layers=(1, 2, 3), heads=2, divide=True, renumber=True),
    ),
    "divprune": (one(divprune), one(divprune, spread=False)),
}
"""The rule of each preset, and one that is not quite it."""


@FAMILIES
@pytest.mark.parametrize("name", RULES)
def test_the_choice_is_that_of_the_published_rule(name, family):
    found = case(family, RAGGED)
    plan = Schedule.preset(name.partition("'")[0], found.model, budget="45%")
    rule, another = RULES[name]
    chosen = chosen_by_engine(found, plan)
    assert chosen == chosen_by_rule(found, plan, rule)
    assert chosen != chosen_by_rule(found, plan, another), "the control is not seen"


@FAMILIES
def test_stride_reads_no_attention_and_shortens_every_layer(family):
    found = case(family, RAGGED)
    plan = Schedule.preset("stride", found.model, budget="40%")
    with torch.no_grad(), tl.prune(found.model, plan) as trace:
        found.model(**found.inputs)
    assert trace.cost.scoring_macs.tolist() == [0.0] * len(found.alone)
    kept = torch.tensor([len(chosen) for chosen in trace.stages[0].selected])
    assert torch.equal(trace.tokens_per_layer, kept[:, None].expand(-1, LAYERS))
    assert not plan.stages[0].score_layer


@pytest.mark.parametrize(("average", "ratio"), [(192, 0.560), (128, 0.420), (64, 0.192)])
def test_pdrop_has_the_published_ratios_where_its_stages_are_given(average, ratio):
    model = ModelRef(architecture="A", layers=32)
    plan = Schedule.preset("pdrop", model, budget=average, layers=[3, 9, 17], n_visual=576)
    assert [stage.first_layer for stage in plan.stages] == [3, 9, 17]
    for power, stage in enumerate(plan.stages, start=1):
        assert stage.keep == pytest.approx(ratio**power, abs=0.002)


def test_pdrop_says_what_its_own_stages_cannot_reach():
    model = ModelRef(architecture="A", layers=32)
    own = Schedule.preset("pdrop", model, budget=270, n_visual=576)
    assert [stage.first_layer for stage in own.stages] == [9, 17, 25]
    assert own.stages[0].keep == pytest.approx(0.5, abs=0.005)
    with pytest.raises(BudgetError, match=r"128 tokens .*144\.8 to 576 tokens"):
        Schedule.preset("pdrop", model, budget=128, n_visual=576)


@FAMILIES
@pytest.mark.parametrize(
    "name", ["swiftvlm", "swiftvlm-unmerged", "drop", "freeze", "tokenlens", "shortv"]
)
def test_the_choice_is_that_of_the_full_length_reference(name, family):
    """The bypass and what it is compared with: rules that need the hidden states themselves."""
    found = case(family, RAGGED)
    plan = Schedule.preset(name, found.model, budget="70%", n_visual=9)
    right, wrong = compare(found, plan), compare(found, plan, worst_at=0)
    assert not right.choices
    assert right.logits < 1e-9
    assert wrong.choices, "the control is not seen"
