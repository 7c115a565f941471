"""Presets: their names, stages and published counts."""

import pytest

from tests.support.builders import tiny_qwen2_vl
from tokenlens.errors import BudgetError, ScheduleError
from tokenlens.methods import find_method
from tokenlens.registry import METHODS
from tokenlens.schedule import ModelRef, Schedule
from tokenlens.schedule.token_counts import keep_count


def test_every_preset_is_registered_under_its_name():
    for name in METHODS:
        method = find_method(name)
        assert method.name == name
        assert method.summary
        assert method.source
    with pytest.raises(ScheduleError, match="did you mean 'fastv'"):
        find_method("fastvv")


def test_presets_say_what_they_are():
    model = ModelRef(architecture="A", layers=32)
    swift = Schedule.preset("swiftvlm", model, budget=192, n_visual=576)
    assert [(stage.score_layer, stage.when, stage.disposal) for stage in swift.stages] == [
        (3, "after", "bypass"),
        (11, "before", "bypass"),
        (15, "before", "drop"),
    ]
    assert [stage.merge for stage in swift.stages] == [0.1, 0.1, 0]
    drop = Schedule.preset("drop", model, budget=192, n_visual=576)
    assert [stage.score_layer for stage in drop.stages] == [3, 11, 15]
    assert {stage.disposal for stage in drop.stages} == {"drop"}
    assert Schedule.preset("random", model, budget="33%").scorer.query == "random"
    assert [stage.score_layer for stage in Schedule.preset("fastv", model, budget=0.5).stages] == [
        2
    ]
    own = Schedule.preset("swiftvlm", model, budget="33%", layers=[4, 20])
    assert [stage.score_layer for stage in own.stages] == [4, 20]
    with pytest.raises(ScheduleError, match="deeper"):
        Schedule.preset("swiftvlm", model, budget="33%", layers=[4, 4])
    with pytest.raises(ScheduleError, match="stages: got"):
        Schedule.preset("swiftvlm", model, budget="33%", layers=[])


@pytest.mark.parametrize(("average", "keep"), [(192, 166), (128, 98), (64, 30)])
def test_fastv_keeps_the_published_counts(average, keep):
    schedule = Schedule.preset(
        "fastv", ModelRef(architecture="A", layers=32), budget=average, n_visual=576
    )
    assert keep_count(schedule.stages[0].keep, 576) == keep


def test_a_number_of_tokens_is_of_576_where_no_processor_says_otherwise():
    model = tiny_qwen2_vl(layers=4)
    assert Schedule.preset("fastv", model, budget=300).budget.n_visual == 576
    schedule = Schedule.preset("fastv", model, budget=24, n_visual=36)
    assert sum(schedule.tokens_entering(36, 4)) / 4 == pytest.approx(24, abs=0.5)
    assert schedule.budget is not None
    assert (schedule.budget.average, schedule.budget.n_visual) == (24, 36)
    with pytest.raises(BudgetError, match="of 576\\) is out of reach"):
        Schedule.preset("fastv", model, budget=24)
