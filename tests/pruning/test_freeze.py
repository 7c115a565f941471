"""Disposal `freeze`: what the family oracle does not ask of it.

That its figures are exact on every family is in `test_families_oracle.py`, that its cost is what
torch counts in `test_cost.py` and `test_forecast.py`.
"""

import pytest
import torch
from transformers import DynamicCache

import tokenlens as tl
from tests.references.full_length import FullLength
from tests.support.builders import fake_inputs, tiny_qwen2_vl
from tests.support.comparing import compare, difference, read, references, tokens_for
from tests.support.engine_support import stage
from tests.support.families import ONE, RAGGED, case
from tests.support.family_plans import plan_for
from tests.support.true_float64 import true_float64
from tokenlens.errors import PruningError, ScheduleError
from tokenlens.pruning.cost.decoder_cost import Widths, decoder_macs
from tokenlens.pruning.projections import without_queries

TOLERANCE = 1e-10
SEEN = 1e-6
FREEZING = [stage(3, "after", 0.4, "freeze"), stage(5, "before", 0.3, "freeze")]
FAMILIES = pytest.mark.parametrize(
    "name", ["Qwen2-VL", "Gemma3", "PaliGemma", "LLaVA + Phi3", "LLaVA + Olmo2"]
)


def plan(found, stages=FREEZING, **scorer):
    return plan_for(found.model, stages, **scorer)


@FAMILIES
def test_the_logits_are_the_same_without_a_cache(name):
    found = case(name, RAGGED)
    with torch.no_grad(), true_float64(), tl.prune(found.model, plan(found)) as trace:
        cached = found.model(**found.inputs).logits[:, -1]
        selected = [at.selected for at in trace.stages]
        alone = found.model(**found.inputs, use_cache=False).logits[:, -1]
    assert torch.equal(cached, alone)
    assert [[*map(torch.Tensor.tolist, at.selected)] for at in trace.stages] == [
        [*map(torch.Tensor.tolist, at)] for at in selected
    ]


@FAMILIES
def test_gradients_flow_through_frozen_keys_and_values(name):
    found = case(name, ONE)
    weight = found.model.get_input_embeddings().weight
    with true_float64():
        with tl.prune(found.model, plan(found)):
            pruned = found.model(**found.inputs, use_cache=False).logits[0, -1]
        (got,) = torch.autograd.grad(pruned[:7].sum(), weight)
        full = FullLength(found.model, found.alone[0], plan(found)).logits
        (expected,) = torch.autograd.grad(full[:7].sum(), weight)
        dropping = [{**at, "disposal": "drop"} for at in FREEZING]
        other = FullLength(found.model, found.alone[0], plan(found, dropping)).logits
        (control,) = torch.autograd.grad(other[:7].sum(), weight)
    assert (got - expected).abs().max() < TOLERANCE
    assert (control - expected).abs().max() > SEEN


@FAMILIES
def test_controls_frozen_is_neither_dropped_nor_updated(name):
    """The comparison sees a reference that drops what is frozen, and one that updates it."""
    found = case(name, ONE)
    tokens = tokens_for(found, 2)
    with torch.no_grad(), true_float64():
        with tl.prune(found.model, plan(found)):
            logits, _ = read(found.model, found.inputs, tokens)
        assert difference(logits, references(found, plan(found)), tokens) < TOLERANCE
        for other in (
            [{**at, "disposal": "drop"} for at in FREEZING],
            [{**at, "keep": 1.0} for at in FREEZING],
        ):
            assert difference(logits, references(found, plan(found, other)), tokens) > SEEN


@FAMILIES
def test_keeping_everything_is_bit_identical(name):
    found = case(name, RAGGED)
    everything = plan(found, [{**at, "keep": 1.0} for at in FREEZING])
    tokens = tokens_for(found, 3)
    with torch.no_grad():
        plain, _ = read(found.model, found.inputs, tokens)
        with tl.prune(found.model, everything) as trace:
            frozen, _ = read(found.model, found.inputs, tokens)
    assert torch.equal(plain, frozen)
    assert torch.equal(trace.tokens_per_layer, trace.readable_per_layer)


def test_tokens_rejoin_with_the_state_they_had():
    """Nothing is updated in layers 3 to 5 and everything after: as if those layers had no rows."""
    found = case("Qwen2-VL", RAGGED)
    stages = [stage(3, "before", "none", "freeze"), stage(6, "before", 1.0)]
    result = compare(found, plan(found, stages))
    assert result.choices == ()
    assert result.logits < TOLERANCE
    with torch.no_grad(), tl.prune(found.model, plan(found, stages)) as trace:
        found.model(**found.inputs)
    visual = [len(positions) for positions in trace.stages[0].candidates]
    assert trace.tokens_per_layer.tolist() == [[n, n, 0, 0, 0, n] for n in visual]
    assert trace.readable_per_layer.tolist() == [[n] * 6 for n in visual]
    assert [len(positions) for positions in trace.stages[1].candidates] == visual


def test_samples_without_a_picture_in_a_batch_and_alone():
    model = tiny_qwen2_vl(layers=6, dtype=torch.float64)
    mixed = fake_inputs(model, (((3, 4),), ()), seed=3)
    schedule = plan_for(model, FREEZING)
    with torch.no_grad(), true_float64():
        plain = model(**mixed).logits[1, -1]
        with tl.prune(model, schedule) as trace:
            pruned = model(**mixed).logits[:, -1]
    assert (pruned[1] - plain).abs().max() < TOLERANCE
    assert trace.readable_per_layer.tolist() == [[12] * 6, [0] * 6]


def test_a_beam_search_is_that_of_each_beam_alone():
    """The reference gives the words of each beam the score it has: its cache was its own."""
    found = case("Gemma3", RAGGED)
    with torch.no_grad(), true_float64():
        with tl.prune(found.model, plan(found)):
            ended = found.model.generate(
                **found.inputs,
                max_new_tokens=6,
                num_beams=3,
                do_sample=False,
                return_dict_in_generate=True,
                output_scores=True,
                eos_token_id=None,
            )
        length = found.inputs["input_ids"].shape[1]
        written = ended.sequences[:, length:]
        expected = [
            torch.cat([one.logits[None], one.extend(written[row, :-1])])
            for row, one in enumerate(references(found, plan(found)))
        ]
    for row, logits in enumerate(expected):
        said = logits.log_softmax(-1).gather(1, written[row][:, None]).sum() / len(logits)
        assert float(ended.sequences_scores[row]) == pytest.approx(float(said), abs=1e-5)


def test_the_cache_holds_a_key_of_every_readable_token():
    model = tiny_qwen2_vl(layers=6)
    inputs = fake_inputs(model, (((4, 5),),))
    cache = DynamicCache(config=model.config.get_text_config())
    with torch.no_grad(), tl.prune(model, plan_for(model, FREEZING)) as trace:
        model(**inputs, past_key_values=cache)
    held = sum(part.nbytes for layer in cache.layers for part in (layer.keys, layer.values))
    assert trace.cost.kv_bytes.tolist() == [held] == trace.cost.unpruned.kv_bytes.tolist()


def test_a_frozen_token_costs_its_keys_values_and_those_who_read_it():
    config = tiny_qwen2_vl(layers=6).config.get_text_config()
    widths = Widths.of(config)
    live, frozen = 10, 7
    more = decoder_macs(config, [live], [live + frozen]) - decoder_macs(config, [live])
    assert more == frozen * (2 * widths.hidden * widths.key + 2 * live * widths.query)


@FAMILIES
def test_projections_are_as_they_were_afterwards(name):
    found = case(name, ONE)
    before = [vars(module).get("forward") for module in found.model.modules()]
    attention = found.model.get_decoder().layers[0].self_attn
    with pytest.raises(ZeroDivisionError), without_queries(attention):
        _ = 1 / 0
    with torch.no_grad(), tl.prune(found.model, plan(found)):
        found.model(**found.inputs)
    assert [vars(module).get("forward") for module in found.model.modules()] == before


def test_what_is_refused():
    found = case("Qwen3-VL", ONE)
    early = plan(found, [stage(1, "after", 0.5, "freeze"), stage(3, "before", 0.5)])
    with (
        torch.no_grad(),
        tl.prune(found.model, early),
        pytest.raises(PruningError, match="a 'freeze' stage before layer 2: the model adds"),
    ):
        found.model(**found.inputs)
    with pytest.raises(ScheduleError, match=r"stages\[1\].when: got 'after', expected 'before'"):
        plan(found, [stage(3, "after", 0.5, "freeze"), stage(4, "after", 0.5)])
    with pytest.raises(ScheduleError, match=r"got merge 0\.2 with disposal 'freeze'"):
        plan(found, [stage(3, "after", 0.5, "freeze", merge=0.2)])


def test_a_model_whose_keys_cannot_be_made_alone_is_refused():
    model = tiny_qwen2_vl(layers=4)
    attention = model.get_decoder().layers[2].self_attn
    attention.other = attention.q_proj
    del attention.q_proj
    schedule = plan_for(model, FREEZING[:1]).replace(
        model={"architecture": type(model).__name__, "layers": 4},
        stages=[stage(1, "after", 0.5, "freeze")],
    )
    with (
        pytest.raises(PruningError, match=r"decoder layer 3 .* no `q_proj`"),
        tl.prune(model, schedule),
    ):
        pass
