import pytest
import torch

from tests.support.builders import fake_inputs, tiny_qwen2_vl
from tokenlens.probing import waiting_layers
from tokenlens.probing.recording import probe

ONE, ALIKE, RAGGED = (((3, 4),),), (((3, 4),), ((3, 4),)), (((3, 4),), ((2, 2),))


def recorded(model, inputs, monkeypatch, most, per_head):
    """The rows of all layers, and how many layers were computed together each time."""
    together = []
    own = waiting_layers.attention_weights

    def counted(query, *rest, **options):
        together.append(len(query))
        return own(query, *rest, **options)

    monkeypatch.setattr(waiting_layers, "attention_weights", counted)
    monkeypatch.setattr(waiting_layers, "MOST_WAITING", most)
    with torch.no_grad(), probe(model, per_head=per_head) as recording:
        model(**inputs)
    monkeypatch.setattr(waiting_layers, "attention_weights", own)
    return (recording.per_head if per_head else recording.importance), together


@pytest.mark.parametrize("grids", [ONE, ALIKE], ids=["one", "alike"])
@pytest.mark.parametrize("per_head", [False, True])
def test_layers_read_together_have_the_rows_of_each_alone(monkeypatch, grids, per_head):
    model = tiny_qwen2_vl()
    inputs = fake_inputs(model, grids, text=[4] * len(grids))
    alone, none = recorded(model, inputs, monkeypatch, 0, per_head)
    together, all_layers = recorded(model, inputs, monkeypatch, 2**20, per_head)
    assert none == []
    assert all_layers == [4]
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-7)


def test_no_more_wait_than_there_is_place_for(monkeypatch):
    model = tiny_qwen2_vl()
    inputs = fake_inputs(model, ONE)
    sizes = []
    own = waiting_layers.WaitingLayers.take

    def noted(self, layer, call):
        sizes.append(call.query.numel() + call.key.numel())
        return own(self, layer, call)

    monkeypatch.setattr(waiting_layers.WaitingLayers, "take", noted)
    alone, _ = recorded(model, inputs, monkeypatch, 0, False)
    by_three, parts = recorded(model, inputs, monkeypatch, 3 * sizes[0], False)
    assert parts == [3, 1]
    torch.testing.assert_close(by_three, alone, rtol=0, atol=1e-7)


def test_samples_of_other_lengths_do_not_wait(monkeypatch):
    model = tiny_qwen2_vl()
    rows, together = recorded(model, fake_inputs(model, RAGGED), monkeypatch, 2**20, False)
    assert together == []
    assert [len(sample) for sample in rows] == [4, 4]


def test_nothing_that_waits_outlives_its_prompt():
    model = tiny_qwen2_vl()
    first, second = fake_inputs(model, ONE), fake_inputs(model, ALIKE)
    stop = model.get_decoder().layers[2].mlp.register_forward_pre_hook(_interrupt)
    with torch.no_grad(), probe(model) as recording:
        with pytest.raises(KeyboardInterrupt):
            model(**first)
        stop.remove()
        model(**second)
        found = recording.importance
        with probe(model) as alone:
            model(**second)
    torch.testing.assert_close(found, alone.importance, rtol=0, atol=0)


def _interrupt(*_):
    raise KeyboardInterrupt
