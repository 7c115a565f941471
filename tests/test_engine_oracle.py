"""The engine against an independent full-length masked reference, in true float64."""

import pytest
import torch

import tokenlens as tl
from tests.engine_support import (
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
from tests.reference import Reference, samples_of, true_float64

STEPS = 8
TOLERANCE = 1e-10


def compare(model, grids, plan, steps=STEPS, chunk=1, force=None):
    """Largest difference of scores and of logits; what is selected must be the same."""
    inputs = batch(model, grids)
    tokens = tokens_for(inputs, steps)
    with true_float64():
        samples = samples_of(model, inputs)
        with tl.prune(model, plan) as trace:
            first, later, _ = run(model, inputs, tokens, chunk=chunk)
        worst_score = worst_logit = 0.0
        for row, sample in enumerate(samples):
            reference = Reference(model, sample, plan, force or {})
            for found, expected in zip(trace.stages, reference.stages, strict=True):
                places = [
                    (values[row] - sample.offset).tolist()
                    for values in (found.candidates, found.selected, found.merged)
                ]
                if force is None:
                    assert places == [expected.candidates, expected.selected, expected.merged]
                    scores = torch.tensor(expected.scores)
                    gap = (found.scores[row] - scores).abs().max()
                    worst_score = max(worst_score, float(gap))
            if force is None:
                assert trace.tokens_per_layer[row].tolist() == reference.tokens_per_layer
            logits = torch.cat([reference.logits[None], reference.extend(tokens[row])])
            got = torch.cat([first[row][None], later[row]])
            assert torch.isfinite(got).all()
            worst_logit = max(worst_logit, float((got - logits).abs().max()))
    return worst_score, worst_logit


@pytest.fixture(scope="module")
def model():
    return model64()


@pytest.mark.parametrize("grids", [ONE, RAGGED], ids=["batch 1", "ragged batch 3"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_it_equals_the_full_length_masked_reference(model, name, grids):
    scores, logits = compare(model, grids, SCHEDULES[name])
    assert scores < 1e-6, "scores in the trace are float32"
    assert logits < TOLERANCE
