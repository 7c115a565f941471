"""A stage's own scorer stands in for the schedule's: chosen, counted, saved, refused."""

import numpy as np
import pytest
import torch

import tokenlens as tl
from tests.pruning.test_forecast import compare as compare_forecast
from tests.support.comparing import compare
from tests.support.engine_support import stage
from tests.support.families import ONE, RAGGED, case
from tests.support.family_plans import plan_for
from tokenlens.errors import PruningError, ScheduleError
from tokenlens.pruning.cost.decoder_cost import comparison_macs, projection_macs
from tokenlens.schedule import Schedule

FAMILIES = pytest.mark.parametrize("name", ["Qwen2-VL", "Gemma3", "LLaVA + Phi3"])


def mixed(*, default="all"):
    """Every stage reads importance in another way, the third in the schedule's."""
    stages = [
        stage(2, "after", 0.7, "freeze", scorer={"query": "uniform"}),
        stage(4, "before", 0.5, scorer={"query": "text", "heads": [[4, 1], [4, 3]]}),
        stage(5, "after", 0.3, scorer={"query": "last", "rotary": False}),
        stage(6, "after", 2) if default is None else stage(6, "before", 2),
    ]
    return stages, {"query": default}


@FAMILIES
def test_every_stage_chooses_by_its_own(name):
    found = case(name, RAGGED)
    stages, scorer = mixed()
    stages = [*stages[:2], stages[3]]
    plan = plan_for(found.model, stages, **scorer)
    result = compare(found, plan, steps=2)
    assert result.choices == ()
    assert result.logits < 1e-10


@FAMILIES
def test_a_control_the_schedules_own_chooses_others(name):
    found = case(name, RAGGED)
    stages, scorer = mixed()
    del stages[2]
    plain = [{key: value for key, value in at.items() if key != "scorer"} for at in stages]
    with torch.no_grad():
        for left in (stages, plain):
            with tl.prune(found.model, plan_for(found.model, left, **scorer)) as trace:
                found.model(**found.inputs)
            left.append([at.selected[0].tolist() for at in trace.stages])
    assert stages[-1][0] != plain[-1][0]


@FAMILIES
def test_it_is_counted_and_forecast(name):
    found = case(name, ONE)
    stages, scorer = mixed()
    plan = plan_for(found.model, [*stages[:2], stages[3]], **scorer)
    said, cost = compare_forecast(found.model, found.alone[0], plan)
    config = found.model.config.get_text_config()
    visual = said.tokens_per_layer[0]
    text = len(found.alone[0]["input_ids"][0]) - visual
    after_picture = text - int(
        (found.alone[0]["input_ids"][0] == found.model.config.image_token_id).nonzero()[0]
    )
    second, third = visual, said.tokens_per_layer[4]
    expected = (
        comparison_macs(config, after_picture, second + text)
        + projection_macs(config, second + text)
        + comparison_macs(config, third + text, third + text)
        + projection_macs(config, third + text)
    )
    assert cost.scoring_macs.tolist() == np.atleast_1d(expected).tolist()


def test_a_query_of_several_stages_is_chosen_and_counted_once():
    found = case("Qwen2-VL", ONE)
    raters = {"query": "raters"}
    own = [stage(2, "after", 0.7, scorer=raters), stage(4, "before", 0.4, scorer=raters)]
    with torch.no_grad():
        with tl.prune(found.model, plan_for(found.model, own)) as trace:
            found.model(**found.inputs)
        first = trace.cost.scoring_macs
        plain = [{key: value for key, value in at.items() if key != "scorer"} for at in own]
        with tl.prune(found.model, plan_for(found.model, plain, **raters)) as trace:
            found.model(**found.inputs)
    assert first.tolist() == trace.cost.scoring_macs.tolist()


def test_it_is_saved_and_loaded(tmp_path):
    found = case("Qwen2-VL", ONE)
    stages, scorer = mixed()
    plan = plan_for(found.model, stages[:2], **scorer)
    plan.save(tmp_path / "plan.json")
    again = Schedule.load(tmp_path / "plan.json")
    assert again == plan
    assert again.stages[1].scorer.heads == ((4, 1), (4, 3))
    assert [one.query for one in again.scorers] == ["uniform", "text"]
    plain = plan_for(found.model, [stage(2, "after", 0.5)])
    assert "scorer" not in plain.as_json()["stages"][0]


def enter(model, stages):
    with tl.prune(model, plan_for(model, stages)):
        pass


@pytest.mark.parametrize(
    ("scorer", "error", "message"),
    [
        ({"query": "lst"}, ScheduleError, r"stages\[0\].scorer.query: got 'lst'"),
        ({"qery": "last"}, ScheduleError, r"stages\[0\].scorer.qery: unknown key"),
        ({"heads": [[9, 0]]}, ScheduleError, r"stages\[0\].scorer.heads: got a head of layer 9"),
        ({"query": "recorded", "layer": 7}, ScheduleError, r"stages\[0\].scorer.layer: got 7"),
        ({"heads": [[3, 4]]}, PruningError, r"stages\[0\].scorer.heads: got head 4 of layer 3"),
        ({"heads": [[2, 0]]}, PruningError, r"stages\[0\].score_layer: got 3, of which"),
    ],
)
def test_what_is_wrong_names_the_stage(scorer, error, message):
    found = case("Qwen2-VL", ONE)
    with pytest.raises(error, match=message):
        enter(found.model, [stage(3, "after", 0.5, scorer=scorer)])
