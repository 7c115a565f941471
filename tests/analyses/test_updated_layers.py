"""Answers that stay while few layers update: all of them where all do, and tokens by the budget."""

import pytest

import tokenlens as tl
from tests.support.builders import counted_samples, save_model_directory, tiny_qwen2_vl
from tokenlens.analyses.studies import updated_layers
from tokenlens.errors import OptionError
from tokenlens.evaluation.information.measure import information
from tokenlens.selection.solve import parse_budget

LAYERS = 4


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    model = save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(LAYERS))
    return tl.load(str(model))


def test_all_layers_keep_every_answer_and_one_alone_does_not(vlm):
    sets = [[1, 2, 3, 4], [4]]
    table = updated_layers.compute(vlm, counted_samples(12), sets, LAYERS)
    assert table["tokens"].to_list() == [1.0, 1.0]
    assert table["same"][0] == 1.0
    assert table["same"][1] < 1.0  # the control
    assert len(updated_layers.markdown(table).splitlines()) == 4


def test_one_layer_left_out_is_the_contribution_curve(vlm):
    samples = counted_samples(6)
    found = information(vlm, samples, max_new_tokens=32)
    for layer in (1, 3):
        others = [one for one in range(1, LAYERS + 1) if one != layer]
        same = updated_layers.compute(vlm, samples, [others], LAYERS)["same"][0]
        agreed = found.values["contribution", "agreement"][:, layer - 1]
        assert same == pytest.approx((agreed == 1).mean())


def test_a_budget_shows_fewer_tokens_only_where_it_must(vlm):
    budget = parse_budget("60% MACs")
    table = updated_layers.compute(
        vlm, counted_samples(2), [[1, 2, 3, 4], [1]], LAYERS, [None, budget]
    )
    assert table["budget"].to_list() == ["", "", "60 % MACs", "60 % MACs"]
    assert table["tokens"][:2].to_list() == [1.0, 1.0]
    assert table["tokens"][2] < 1.0
    assert table["tokens"][3] == 1.0


@pytest.mark.parametrize("text", ["", "x", "1-2-3", "1,,2", "-1"])
def test_layers_that_are_none_are_refused(text):
    with pytest.raises(OptionError, match="expected layers such as"):
        updated_layers.parse_layers(text)
