"""Paths that the preset `tokenlens` chooses from, and the choice by what was measured."""

from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.selection.test_layer_modes import N_VISUAL, needs_of
from tokenlens.errors import BudgetError
from tokenlens.schedule import ModelRef, Schedule
from tokenlens.schedule.layer_needs import LayerNeeds, PathLoss
from tokenlens.schedule.token_counts import stage_readable, stage_tokens
from tokenlens.selection.candidate_paths import (
    candidate_paths,
    choosing_layer,
    last_reading,
    least_loss,
)

NEEDS = LayerNeeds(
    update=(4.0, 0.1, 0.002, 0.03, 0.01, 1.0, 0.001, 0.0),
    read=(4.0, 0.2, 0.002, 0.03, 0.01, 1.0, 0.9, 0.001),
)


@given(needs_of(), st.sampled_from([None, 0.06]), st.lists(st.floats(0, 1), min_size=2))
def test_every_path_grows_with_its_share_and_makes_valid_schedules(needs, readable_cost, shares):
    model = ModelRef(architecture="A", layers=needs.layers)
    for name, path in candidate_paths(needs, readable_cost).items():
        if name == "modes":
            continue
        updated: list[list[int]] = []
        for share in (0.0, *sorted(shares), 1.0):
            stages = path((), share)
            Schedule(schema=1, method="m", model=model, stages=stages)
            updated.append(stage_tokens(stages, N_VISUAL, needs.layers))
            readable = stage_readable(stages, N_VISUAL, needs.layers)
            gone = readable[last_reading(needs) :]
            assert gone == [0] * len(gone)
        assert all(
            less <= more
            for one, other in pairwise(updated)
            for less, more in zip(one, other, strict=True)
        )


def test_layers_that_need_it_most_are_updated_and_the_text_chooses_when_tokens_are_ready():
    assert last_reading(NEEDS) == 7  # the eighth needs less than a thousandth
    assert choosing_layer(NEEDS) == 3
    paths = candidate_paths(NEEDS, 0.06)
    assert len(paths) == 21
    stages = paths["even, text, 70 %"](
        (), 0.25
    )  # 5 of 7 layers: 1, 6, 2, 4, 5, and 3, which chooses
    assert [(stage.first_layer, stage.keep, stage.disposal) for stage in stages] == [
        (1, 0.5, "drop"),
        (3, 0.25, "drop"),
        (7, "none", "freeze"),
        (8, "none", "drop"),
    ]
    assert [stage.scorer and stage.scorer.query for stage in stages] == [
        "uniform",
        "raters",
        None,
        None,
    ]
    tokens = stage_tokens(stages, 144, 8)
    assert tokens == [72, 72, 36, 36, 36, 36, 0, 0]
    assert stage_readable(stages, 144, 8) == [72, 72, 36, 36, 36, 36, 36, 0]


def test_without_text_one_share_of_the_tokens_goes_through_all():
    stages = candidate_paths(NEEDS, 0.06)["diverse, 55 %"]((), 0.25)
    assert stage_tokens(stages, 144, 8) == [36, 36, 0, 36, 0, 36, 0, 0]
    assert stages[0].scorer.query == "diverse"
    assert {stage.disposal for stage in stages[1:-1]} == {"freeze"}


def test_where_nothing_reads_so_deep_no_text_chooses():
    shallow = LayerNeeds(update=(1.0, 1.0, 0.0, 0.0), read=(1.0, 1.0, 0.0, 0.0))
    assert not [name for name in candidate_paths(shallow, None) if "text" in name]


def share_of(schedule):
    return sum(stage_tokens(schedule.stages, 144, 8)) / (144 * 8)


def _solved(stages, rule):
    share = {True: 0.04, False: 0.25}[len(rule((), 0.5)) > 5]
    return Schedule(
        schema=1,
        method="m",
        model=ModelRef(architecture="A", layers=8),
        stages=rule((), share),
    )


def _needs(**losses):
    paths = tuple(PathLoss(name, (0.01, 0.9), (loss, loss)) for name, loss in losses.items())
    return LayerNeeds(NEEDS.update, NEEDS.read, paths)


@pytest.mark.parametrize("share", [0.3, share_of])
def test_the_path_is_taken_that_loses_least_and_the_first_where_nothing_was_measured(share):
    paths = dict(candidate_paths(NEEDS, 0.06))
    chosen = {name: paths[name] for name in ("modes", "even, 70 %", "diverse, 70 %")}
    for best in ("even, 70 %", "diverse, 70 %"):
        losses = dict.fromkeys(chosen, 2.0) | {best: 1.0}
        found = least_loss(_needs(**losses), chosen, _solved, share)
        assert found == _solved((), chosen[best])
    assert least_loss(NEEDS, chosen, _solved, share) == _solved((), chosen["modes"])
    measured_elsewhere = _needs(**{"all, text, 100 %": 0.0})
    assert least_loss(measured_elsewhere, chosen, _solved, share) == _solved((), chosen["modes"])


@pytest.mark.parametrize("share", [0.3, share_of])
def test_a_path_that_cannot_meet_the_budget_is_passed_over(share):
    paths = dict(candidate_paths(NEEDS, 0.06))
    chosen = {name: paths[name] for name in ("modes", "even, 70 %")}

    def only_even(stages, rule):
        if rule is chosen["modes"]:
            raise BudgetError("modes cannot")
        return _solved(stages, rule)

    def nothing(stages, rule):
        raise BudgetError(f"{'modes' if rule is chosen['modes'] else 'even'} cannot")

    needs = _needs(**{"modes": 0.0, "even, 70 %": 1.0})
    found = least_loss(needs, chosen, only_even, share)
    assert found == _solved((), chosen["even, 70 %"])
    with pytest.raises(BudgetError, match="modes cannot"):
        least_loss(needs, chosen, nothing, share)


def test_where_a_budget_says_the_macs_no_other_path_is_solved():
    paths = dict(candidate_paths(NEEDS, 0.06))
    solved = []

    def counted(stages, rule):
        solved.append(rule)
        return _solved(stages, rule)

    needs = _needs(**{"modes": 1.0, "even, 70 %": 0.5})
    least_loss(needs, paths, counted, 0.3)
    assert solved == [paths["even, 70 %"]]


@given(st.lists(st.floats(1e-6, 5), min_size=3, max_size=3), st.floats(0.1, 0.7))
def test_a_loss_lies_between_those_that_were_measured_beside_it(losses, share):
    one = PathLoss("p", (0.2, 0.3, 0.6), tuple(losses))
    if share < 0.2:
        assert one.at(share) == inf
        return
    beside = losses[:2] if share < 0.3 else losses[1:] if share < 0.6 else losses[2:]
    assert min(beside) - 1e-9 <= one.at(share) <= max(beside) + 1e-9


def test_losses_at_measured_shares_are_those():
    one = PathLoss("p", (0.2, 0.3, 0.6), (2.0, 0.5, 0.0))
    assert [one.at(share) for share in one.shares] == [2.0, 0.5, 0.0]
    assert one.at(0.9) == 0.0
