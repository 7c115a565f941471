"""Max-min diversity before the decoder: what it picks, in what order, and what it costs."""

import pytest
import torch

import tokenlens as tl
from tests.pruning.test_cost import counted_macs
from tests.support.families import RAGGED, case
from tokenlens.pruning.scorers.diverse import pick_diverse
from tokenlens.schedule import Schedule


def test_copies_of_a_picked_token_are_left_until_nothing_else_is_and_none_is_picked_twice():
    copies = torch.tensor([[1.0, 0], [0, 2], [1, 0], [0, 1], [2, 0]], dtype=torch.float64)
    assert pick_diverse(copies, 2).tolist() == [0, 1]
    assert pick_diverse(copies, 5).tolist() == [0, 1, 2, 3, 4]
    assert not len(pick_diverse(copies, 0))


def test_more_picks_only_add_to_fewer():
    features = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    picks = pick_diverse(features, 40).tolist()
    assert sorted(picks) == list(range(40))
    assert pick_diverse(features, 9).tolist() == picks[:9]
    assert pick_diverse(features * torch.rand(40, 1) + 0, 9).tolist() == picks[:9], "only angles"
    assert pick_diverse(features + 1, 9).tolist() != picks[:9], "the control is not seen"


@pytest.mark.parametrize("family", ["Qwen2-VL", "LLaVA-1.5"])
def test_its_comparisons_are_counted_and_every_layer_is_shorter(family):
    found = case(family, RAGGED)
    plan = Schedule.preset("divprune", found.model, budget="40%")
    with torch.no_grad(), tl.prune(found.model, plan) as trace:
        found.model(**found.inputs)
    visual = [
        int((one["input_ids"] == found.model.config.image_token_id).sum()) for one in found.alone
    ]
    assert trace.cost.scoring_macs.tolist() == [count**2 * 32 for count in visual]
    kept = [len(chosen) for chosen in trace.stages[0].selected]
    assert trace.tokens_per_layer.tolist() == [[count] * 6 for count in kept]


def test_the_count_is_that_of_torch():
    found = case("Qwen2-VL", ((1,),))
    plan = Schedule.preset("divprune", found.model, budget="40%")
    found.model.set_attn_implementation({"text_config": "eager"})
    try:
        with tl.prune(found.model, plan) as trace:
            macs = counted_macs(found.model, found.inputs)
    finally:
        found.model.set_attn_implementation({"text_config": "sdpa"})
    assert trace.cost.total_macs[0] == pytest.approx(macs, rel=0.01)
    assert trace.cost.prefill_macs[0] != pytest.approx(macs, rel=0.01), "scoring is not free"
