"""The engine against an independent full-length masked reference, in true float64."""

import pytest
import torch

import tokenlens as tl
from tests.references.reference import Reference, samples_of, true_float64
from tests.support.engine_support import (
    KEEP_EVERYTHING,
    ONE,
    RAGGED,
    SCHEDULES,
    batch,
    model64,
    run,
    schedule,
    stage,
    tokens_for,
)

STEPS = 8
TOLERANCE = 1e-10

BYPASS = [
    stage(2, "after", 0.5, "bypass", merge=0.2),
    stage(4, "before", 0.3, "bypass", merge=0.2),
    stage(5, "before", 4),
]
SCORERS = {
    "text rows": {"query": "text"},
    "raters": {"query": "raters"},
    "all rows": {"query": "all"},
    "all rows, visual softmax": {"query": "all", "softmax": "visual"},
    "visual softmax": {"softmax": "visual"},
    "no rotary": {"rotary": False},
    "no rotary, visual softmax, text rows": {
        "rotary": False,
        "softmax": "visual",
        "query": "text",
    },
    "three strongest heads": {"heads": 3},
    "divided by the decay": {"query": "text", "decay": "divide"},
    "both, raters": {"query": "raters", "heads": 2, "decay": "divide"},
    "some heads": {"heads": [[2, 0], [2, 3], [4, 1], [5, 2], [5, 0], [5, 1]]},
}
RENUMBERED = {
    "drop": [stage(2, "after", 0.5, positions="renumber"), stage(4, "before", 4)],
    "drop, kept, again": [
        stage(1, "after", 0.7, positions="renumber"),
        stage(3, "before", 0.5),
        stage(5, "after", 3, positions="renumber"),
    ],
    "merge": [
        stage(2, "after", 0.4, "merge", merge=0.4, positions="renumber"),
        stage(4, "after", 0.3, "merge", merge=2),
    ],
    "recycle": [
        stage(2, "after", 0.3, "recycle", positions="renumber"),
        stage(4, "after", 0.2, "recycle", positions="renumber"),
    ],
    "bypass": [
        stage(2, "after", 0.4, "bypass", merge=0.3, positions="renumber"),
        stage(4, "before", 0.3, "bypass", merge=0.3),
        stage(6, "before", 3, positions="renumber"),
    ],
    "bypass after drop": [
        stage(1, "after", 0.8, positions="renumber"),
        stage(3, "before", 0.4, "bypass", merge=0.3),
        stage(5, "before", 3),
    ],
}
BATCHES = pytest.mark.parametrize("grids", [ONE, RAGGED], ids=["batch 1", "ragged batch 3"])


@pytest.fixture(scope="module")
def model():
    return model64()


def engine_run(model, inputs, plan, tokens, chunk=1):
    """Logits [batch, 1 + steps, vocabulary] and the trace."""
    with tl.prune(model, plan) as trace:
        first, later, _ = run(model, inputs, tokens, chunk=chunk)
    logits = torch.cat([first[:, None], later], dim=1)
    assert torch.isfinite(logits).all()
    return logits, trace


def largest_difference(logits, references, tokens):
    """Over all samples: the prefill's last logits and those after each token."""
    return max(
        float(
            (logits[row] - torch.cat([found.logits[None], found.extend(tokens[row])])).abs().max()
        )
        for row, found in enumerate(references)
    )


def assert_equals_reference(model, grids, plan, chunk=1):
    inputs = batch(model, grids)
    tokens = tokens_for(inputs, STEPS)
    with true_float64():
        references = [Reference(model, sample, plan) for sample in samples_of(model, inputs)]
        logits, trace = engine_run(model, inputs, plan, tokens, chunk)
        assert largest_difference(logits, references, tokens) < TOLERANCE
    for row, reference in enumerate(references):
        assert trace.tokens_per_layer[row].tolist() == reference.tokens_per_layer
        for found, expected in zip(trace.stages, reference.stages, strict=True):
            for values, places in (
                (found.candidates, expected.candidates),
                (found.selected, expected.selected),
                (found.merged, expected.merged),
            ):
                assert (values[row] - reference.sample.offset).tolist() == places
            assert found.scores[row].dtype == torch.float32
            assert found.scores[row].tolist() == pytest.approx(expected.scores, abs=1e-6)


@BATCHES
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(model, name, grids):
    assert_equals_reference(model, grids, SCHEDULES[name])


def test_several_clusters(model):
    """Pictures of 63 and 80 tokens, beside one that makes a single cluster."""
    grids = (((7, 9),), ((3, 4),), ((8, 5), (5, 8)))
    for plan in (SCHEDULES["recycle early"], schedule(*RENUMBERED["recycle"])):
        assert_equals_reference(model, grids, plan)
        with torch.no_grad(), tl.prune(model, plan) as trace:
            model(**batch(model, grids))
        assert [len(places) for places in trace.stages[0].merged] == [
            2,
            1,
            3 - (len(plan.stages) > 1),
        ]


@BATCHES
@pytest.mark.parametrize("name", SCORERS)
def test_scorers(model, name, grids):
    assert_equals_reference(model, grids, schedule(*BYPASS, **SCORERS[name]))


@BATCHES
@pytest.mark.parametrize("name", RENUMBERED)
def test_renumbered_positions(model, name, grids):
    assert_equals_reference(model, grids, schedule(*RENUMBERED[name]))


@BATCHES
@pytest.mark.parametrize("name", SCHEDULES)
def test_control_another_kept_set_is_seen(model, name, grids):
    """The comparison fails when the reference keeps the worst tokens of any one stage."""
    inputs, plan = batch(model, grids), SCHEDULES[name]
    with true_float64():
        samples = samples_of(model, inputs)
        logits, _ = engine_run(model, inputs, plan, tokens_for(inputs, 1))
        for row, sample in enumerate(samples):
            honest = Reference(model, sample, plan)
            for index, record in enumerate(honest.stages):
                ranked = sorted(zip(record.scores, record.candidates, strict=True))
                worst = sorted(place for _, place in ranked[: len(record.selected)])
                assert worst != record.selected
                control = Reference(model, sample, plan, {index: worst})
                assert control.stages[index].selected == worst
                assert (logits[row, 0] - control.logits).abs().max() > 1e4 * TOLERANCE


@pytest.mark.parametrize("name", ["merge three", "recycle three", "bypass three"])
def test_control_merging_is_seen(model, name):
    """The comparison fails when the reference drops what the engine merges or bypasses."""
    inputs, plan = batch(model), SCHEDULES[name]
    tokens = tokens_for(inputs, 1)
    plain = schedule(
        *[stage(s.score_layer, s.when, s.keep) for s in plan.stages],
    )
    with true_float64():
        logits, _ = engine_run(model, inputs, plan, tokens)
        references = [Reference(model, sample, plain) for sample in samples_of(model, inputs)]
    assert largest_difference(logits, references, tokens) > 1e4 * TOLERANCE


@pytest.mark.parametrize("chunk", [3, 8])
def test_several_tokens_at_a_time(model, chunk):
    """A further turn: more than one token goes on from the pruned cache at once."""
    for name in ("drop three", "bypass three"):
        assert_equals_reference(model, RAGGED, SCHEDULES[name], chunk)
    assert_equals_reference(model, RAGGED, schedule(*RENUMBERED["bypass"]), chunk)


def test_eager_attention():
    """Its masks are additive and always there; its softmax is float32."""
    model, plan = model64(), SCHEDULES["bypass three"]
    model.set_attn_implementation({"text_config": "eager"})
    inputs = batch(model, ONE)
    tokens = tokens_for(inputs, 2)
    with true_float64():
        logits, _ = engine_run(model, inputs, plan, tokens)
        references = [Reference(model, sample, plan) for sample in samples_of(model, inputs)]
    assert largest_difference(logits, references, tokens) < 1e-5


def test_eager_attention_in_a_padded_batch():
    """In float32, since transformers' eager attention of padding is NaN in a float64 model."""
    model, plan = model64().float(), SCHEDULES["bypass three"]
    inputs = batch(model)
    tokens = tokens_for(inputs, 2)
    expected, trace = engine_run(model, inputs, plan, tokens)
    model.set_attn_implementation({"text_config": "eager"})
    logits, eager_trace = engine_run(model, inputs, plan, tokens)
    assert torch.allclose(logits, expected, atol=1e-4)
    for found, other in zip(trace.stages, eager_trace.stages, strict=True):
        assert all(map(torch.equal, found.selected, other.selected))


def test_other_seeds_and_widths():
    for seed in range(3):
        assert_equals_reference(model64(seed + 1), RAGGED, SCHEDULES["bypass three"])


@BATCHES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_keep_everything_is_bit_identical(dtype, grids):
    model = model64().to(dtype)
    inputs = batch(model, grids)
    tokens = tokens_for(inputs, STEPS)
    first, later, _ = run(model, inputs, tokens)
    with tl.prune(model, KEEP_EVERYTHING) as trace:
        pruned_first, pruned_later, _ = run(model, inputs, tokens)
        with torch.no_grad():
            whole = model(**inputs).logits
    assert torch.equal(first, pruned_first)
    assert torch.equal(later, pruned_later)
    with torch.no_grad():
        assert torch.equal(whole, model(**inputs).logits)
    assert [list(map(len, found.merged)) for found in trace.stages] == [[0] * len(grids)] * 3
    for found in trace.stages:
        assert all(map(torch.equal, found.selected, found.candidates))
