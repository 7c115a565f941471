"""How much layers change visual tokens, against hidden states that the model gives out itself."""

import pytest
import torch

from tests.support.builders import counted_samples, save_model_directory, tiny_qwen2_vl
from tokenlens.analyses.studies.movement import compute, markdown
from tokenlens.models.batch import Batch
from tokenlens.models.loading import load

LAYERS = 4


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return load(str(save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(LAYERS))))


def test_changes_are_those_of_the_hidden_states(vlm):
    samples = counted_samples(3)
    table = compute(vlm, samples, batch_size=2)
    expected = torch.zeros(LAYERS - 1, 2, dtype=torch.float64)
    for sample in samples:
        inputs = Batch.of(vlm, [sample]).inputs
        with torch.inference_mode():
            states = vlm.model(**inputs, output_hidden_states=True).hidden_states
        visual = inputs["input_ids"][0] == vlm.model.config.image_token_id
        for layer in range(LAYERS - 1):  # the last state that is given out is normed
            before, after = (state[0].double() for state in states[layer : layer + 2])
            change = (after - before).norm(dim=1) / before.norm(dim=1)
            expected[layer] += torch.stack([change[visual].mean(), change[~visual].mean()])
    found = torch.tensor(table[["visual", "text"]].to_numpy())
    torch.testing.assert_close(found[:-1], expected / len(samples), atol=1e-5, rtol=1e-5)
    assert found[-1].min() > 0
    assert list(table["layer"]) == [1, 2, 3, 4]
    assert markdown(table).count("\n") == LAYERS + 1


def test_a_layer_that_adds_nothing_changes_nothing(vlm):
    layer = vlm.model.model.language_model.layers[1]
    kept = [layer.self_attn.o_proj.weight.clone(), layer.mlp.down_proj.weight.clone()]
    with torch.no_grad():
        for module in (layer.self_attn.o_proj, layer.mlp.down_proj):
            module.weight.zero_()
    table = compute(vlm, counted_samples(2))
    with torch.no_grad():
        layer.self_attn.o_proj.weight.copy_(kept[0])
        layer.mlp.down_proj.weight.copy_(kept[1])
    assert table["visual"][1] == 0
    assert table["visual"][0] > 0
