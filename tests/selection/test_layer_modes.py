"""What each layer is given of the visual tokens, against a search of all there is to choose."""

from itertools import product
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenlens.errors import ScheduleError
from tokenlens.schedule import ModelRef, Schedule
from tokenlens.schedule.layer_needs import LayerNeeds
from tokenlens.schedule.token_counts import stage_readable, stage_tokens
from tokenlens.selection.layer_modes import FreezingPath, Given, ModePath, ordered_steps, stages_of

LOSSES = st.floats(0, 4, allow_subnormal=False).map(lambda loss: round(loss, 4))
N_VISUAL = 20


@st.composite
def needs_of(draw, most=9):
    layers = draw(st.integers(2, most))
    update = draw(st.lists(LOSSES, min_size=layers, max_size=layers))
    read = draw(st.lists(LOSSES, min_size=layers, max_size=layers))
    return LayerNeeds(tuple(update), tuple(read))


def loss_and_cost(needs, modes, readable_cost):
    """Of a choice of modes: the loss summed over layers, and its cost in updated layers."""
    loss = {"updated": lambda *_: 0.0, "readable": lambda update, _: update, "aside": max}
    cost = {"updated": 1.0, "readable": readable_cost, "aside": 0.0}
    of = zip(needs.update, needs.read, modes, strict=True)
    return sum(loss[mode](u, r) for u, r, mode in of), sum(cost[mode] for mode in modes)


@given(needs_of(most=5), st.sampled_from([0.03, 0.1, 0.16]))
def test_no_choice_of_modes_of_the_same_cost_loses_less(needs, readable_cost):
    modes = ["aside"] * needs.layers
    everything = [
        loss_and_cost(needs, choice, readable_cost)
        for choice in product(("updated", "readable", "aside"), repeat=needs.layers)
    ]
    for step in ordered_steps(needs, readable_cost):
        modes[step.layer] = step.mode
        loss, cost = loss_and_cost(needs, modes, readable_cost)
        assert loss <= 1e-9 + min(other for other, its in everything if its <= cost + 1e-9)
    assert modes == ["updated"] * needs.layers


@given(needs_of(), st.sampled_from([None, 0.03, 0.16]), st.lists(st.floats(0, 1), min_size=2))
def test_what_is_updated_grows_with_the_share(needs, readable_cost, shares):
    for path in (ModePath.of(needs, readable_cost), FreezingPath(needs)):
        sums = []
        for share in (0.0, *sorted(shares), 1.0):
            stages = path((), share)
            Schedule(schema=1, method="m", model=model_of(needs), stages=stages)
            updated = stage_tokens(stages, N_VISUAL, needs.layers)
            readable = stage_readable(stages, N_VISUAL, needs.layers)
            assert all(some <= whole for some, whole in zip(updated, readable, strict=True))
            sums.append(sum(updated))
        assert sums[-1] == N_VISUAL * needs.layers
        if readable_cost is None or isinstance(path, FreezingPath):
            assert sums == sorted(sums)


def model_of(needs):
    return ModelRef(architecture="A", layers=needs.layers)


def test_layers_get_what_they_need_and_the_rest_is_dropped():
    needs = LayerNeeds(update=(0.0, 2.0, 0.0, 0.0, 0.0), read=(0.0, 2.0, 0.0, 1.0, 0.0))
    path = ModePath.of(needs, 0.1)
    assert path.needed == ("aside", "updated", "aside", "readable", "aside")
    found = [(one.score_layer, one.keep, one.disposal) for one in path((), 0.5)]
    assert found == [
        (1, "none", "bypass"),
        (2, 1.0, "freeze"),
        (3, "none", "bypass"),
        (4, "none", "freeze"),
        (5, "none", "drop"),
    ]
    some = path((), 0.25)
    assert stage_tokens(some, N_VISUAL, 5) == [0, 10, 0, 0, 0]
    assert stage_readable(some, N_VISUAL, 5) == [0, 10, 0, 10, 0]
    assert stage_readable(path((), 0.5), N_VISUAL, 5) == [0, N_VISUAL, 0, N_VISUAL, 0]


def test_tokens_are_readable_before_they_are_updated_only_where_all_are_there():
    needs = LayerNeeds(update=(0.0, 2.0, 0.0), read=(1.0, 2.0, 1.0))
    path = ModePath.of(needs, 0.1)
    assert path.needed == ("aside", "updated", "readable")
    assert (path.later[0].layer, path.later[0].mode) == (0, "readable")
    nobody = ModePath.of(LayerNeeds((0.0,) * 3, (0.0, 1.0, 0.0)), 0.1)
    assert nobody.needed == ("aside", "updated", "aside")


def test_layers_that_features_are_added_behind_are_always_updated():
    needs = LayerNeeds((0.0,) * 4, (0.0, 0.0, 1.0, 0.0)).updated_up_to(2)
    assert needs.update == (inf, inf, 0.0, 0.0)
    for share in (0.0, 0.3, 0.5, 0.7, 1.0):
        for path in (ModePath.of(needs, 0.1), ModePath.of(needs, None)):
            assert all(
                stage.first_layer > 2 or stage.disposal == "drop" for stage in path((), share)
            )


def test_one_stage_at_least_says_what_everything_is():
    (stage,) = stages_of([Given("updated", 1.0)] * 3)
    assert (stage.score_layer, stage.keep, stage.disposal) == (3, 1.0, "drop")


def test_what_is_aside_in_the_last_layer_is_dropped():
    (stage,) = stages_of([Given("updated", 1.0), Given("aside", 0.4)])
    assert (stage.score_layer, stage.keep, stage.disposal) == (2, 0.4, "drop")


def test_contributing_layers_are_updated_first():
    needs = LayerNeeds(update=(0.1, 3.0, 2.0, 0.0), read=(3.0,) * 4)
    path = FreezingPath(needs)
    assert stage_tokens(path((), 0.5), N_VISUAL, 4) == [0, N_VISUAL, N_VISUAL, 0]
    assert stage_tokens(path((), 0.625), N_VISUAL, 4) == [10, N_VISUAL, N_VISUAL, 0]
    assert stage_readable(path((), 0.0), N_VISUAL, 4) == [N_VISUAL] * 4


@pytest.mark.parametrize(
    ("update", "read", "said"),
    [
        ((), (), "got 0 numbers"),
        ((1.0,), (), "1 numbers for update and 0"),
        ((-1.0,), (0.0,), "-1"),
    ],
)
def test_needs_that_make_no_sense_are_refused(update, read, said):
    with pytest.raises(ScheduleError, match=said):
        LayerNeeds(update, read)


def test_presets_take_needs_of_their_model_and_no_others_do():
    model, needs = ModelRef(architecture="A", layers=8), LayerNeeds.assumed(8)
    told = Schedule.preset("tokenlens", model, budget="40%", needs=needs)
    assert told.stages == Schedule.preset("tokenlens", model, budget="40%").stages
    assert told.stages == Schedule.preset("tokenlens", model, budget="40%", layers=[1, 2]).stages
    assert told.stages != Schedule.preset("tokenlens", model, budget="40%", layers=[1, 5]).stages
    with pytest.raises(ScheduleError, match="'fastv' does not go by needs"):
        Schedule.preset("fastv", model, budget="40%", needs=needs)
    with pytest.raises(ScheduleError, match="of 7 layers, the model has 8"):
        Schedule.preset("shortv", model, budget="40%", needs=LayerNeeds.assumed(7))
    with pytest.raises(ScheduleError, match="do not go together"):
        Schedule.preset("shortv", model, budget="40%", needs=needs, layers=[1])
    with pytest.raises(ScheduleError, match="expected layers from 1 to 8"):
        Schedule.preset("tokenlens", model, budget="40%", layers=[9])
