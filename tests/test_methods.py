"""The tokens every preset chooses are those of its published rule, on two families of models."""

import math
from functools import partial

import pytest
import torch

import tokenlens as tl
from tests.families import RAGGED, case
from tests.published_rules import Reading, fastv, pdrop
from tokenlens.schedule import Schedule

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
}
"""The rule of each preset, and one that is not quite it."""


@FAMILIES
@pytest.mark.parametrize("name", RULES)
def test_the_choice_is_that_of_the_published_rule(name, family):
    found = case(family, RAGGED)
    plan = Schedule.preset(name, found.model, budget="60%")
    rule, another = RULES[name]
    chosen = chosen_by_engine(found, plan)
    assert chosen == chosen_by_rule(found, plan, rule)
    assert chosen != chosen_by_rule(found, plan, another), "the control is not seen"
