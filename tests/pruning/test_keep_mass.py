"""A keep by mass: the fewest tokens that hold a share of the importance, within limits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenlens as tl
from tests.support.comparing import compare
from tests.support.engine_support import stage
from tests.support.families import FAMILIES, ONE, RAGGED, case
from tests.support.family_plans import plan_for
from tokenlens.errors import PruningError, ScheduleError
from tokenlens.models.prompt_lengths import prompt_lengths
from tokenlens.models.structure import text_config
from tokenlens.models.vlm import VLM
from tokenlens.pruning.cost.forecast import forecast
from tokenlens.pruning.scoring import counts_of_mass
from tokenlens.schedule import MassKeep, Schedule
from tokenlens.schedule.token_counts import at_most, keep_count

MASS = {"mass": 0.6, "least": 2, "most": 0.8}


@pytest.mark.parametrize("disposal", ["drop", "bypass", "merge", "freeze"])
@pytest.mark.parametrize("name", ["Qwen2-VL", "Gemma3", "LLaVA-1.5"])
def test_the_engine_keeps_what_the_reference_keeps(name, disposal):
    """Each sample of a batch its own number of tokens."""
    found = case(name, RAGGED)
    merge = {"merge": 0.3} if disposal in ("bypass", "merge") else {}
    stages = [
        stage(3, "after", MASS, disposal, **merge),
        stage(5, "before", {"mass": 0.4}),
    ]
    result = compare(found, plan_for(found.model, stages), steps=3)
    assert result.choices == ()
    assert result.logits < 1e-10
    other = [{**stages[0], "keep": {"mass": 0.05}}, stages[1]]
    with torch.no_grad():
        counts = []
        for left in (stages, other):
            with tl.prune(found.model, plan_for(found.model, left)) as trace:
                found.model(**found.inputs)
            counts.append(list(map(len, trace.stages[0].selected)))
    assert counts[0] != counts[1], "the control is not seen"
    originals = list(map(len, trace.stages[0].candidates))
    assert all(
        max(1, 2) <= c <= keep_count(0.8, n) for c, n in zip(counts[0], originals, strict=True)
    )


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12),
    st.floats(0.01, 1),
    st.integers(1, 5),
    st.integers(5, 12),
)
@settings(max_examples=200, derandomize=True)
def test_no_fewer_tokens_hold_the_share(scores, mass, least, most):
    keep, n = MassKeep(mass=mass, least=least, most=most), len(scores)
    (count,) = counts_of_mass(torch.tensor([scores]), torch.ones(1, n).bool(), keep, (n,))
    ranked = sorted(scores, reverse=True)
    whole = sum(ranked) * mass
    assert min(least, n) <= count <= min(most, n)
    if count < min(most, n):
        assert sum(ranked[:count]) >= whole * (1 - 1e-9)
    if count > min(least, n):
        assert sum(ranked[: count - 1]) < whole * (1 + 1e-9)


def test_limits_and_samples_without_tokens():
    scores = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0]])
    candidates = torch.tensor([[True] * 4, [True] * 4, [False] * 4])

    def counts(**keep):
        return counts_of_mass(scores, candidates, MassKeep(**keep), (4, 4, 0))

    assert counts(mass=0.5) == (1, 1, 0)
    assert counts(mass=0.5, least=3) == (3, 3, 0)
    assert counts(mass=1.0) == (4, 1, 0)
    assert counts(mass=1.0, most=2) == (2, 1, 0)
    assert counts(mass=1.0, least=0.5, most=0.75) == (3, 2, 0)


@pytest.mark.parametrize("name", ["Qwen2-VL", "LLaVA-1.5"])
def test_no_run_costs_more_than_the_worst_case(name):
    found = case(name, ONE)
    plan = plan_for(found.model, [stage(2, "after", MASS), stage(5, "before", {"mass": 0.3})])
    config, prompt = text_config(found.model), prompt_lengths(VLM.wrap(found.model), found.alone[0])
    with torch.no_grad(), tl.prune(found.model, plan) as trace:
        found.model(**found.inputs)
    worst = forecast(at_most(plan.stages), plan.scorer, config, prompt)
    expected = forecast(plan.stages, plan.scorer, config, prompt)
    assert float(trace.cost.total_macs[0]) <= worst.macs.total
    assert expected.macs.total < worst.macs.total
    assert expected.average < worst.average


@settings(max_examples=20, derandomize=True)
@given(st.floats(0.05, 0.99))
def test_the_expected_number_is_that_of_exponential_importance(mass):
    generator = torch.Generator().manual_seed(1)
    scores = -torch.rand(1, 20_000, generator=generator, dtype=torch.float64).log()
    (count,) = counts_of_mass(scores, scores >= 0, MassKeep(mass=mass), (20_000,))
    assert keep_count(MassKeep(mass=mass), 20_000) == pytest.approx(count, rel=0.05)


def test_it_is_saved_and_loaded(tmp_path):
    found = case("Qwen2-VL", ONE)
    plan = plan_for(found.model, [stage(2, "after", MASS)])
    plan.save(tmp_path / "plan.json")
    assert Schedule.load(tmp_path / "plan.json") == plan
    assert plan.as_json()["stages"][0]["keep"] == MASS
    assert MassKeep(mass=0.5) == MassKeep(mass=0.5, least=1, most=1.0)


def enter(model, stages):
    with tl.prune(model, plan_for(model, stages)):
        pass


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"keep": {"mass": 0}}, ScheduleError, r"stages\[0\].keep.*mass: got 0, expected a share"),
        ({"keep": {"mass": 1.5}}, ScheduleError, r"mass: got 1.5, expected a share"),
        ({"keep": {"least": 2}}, ScheduleError, r"mass: is missing"),
        ({"keep": {"mass": 0.5, "lest": 2}}, ScheduleError, r"lest: unknown key"),
        ({"keep": {"mass": 0.5, "least": 0}}, ScheduleError, r"least: got 0, expected a ratio"),
        ({"keep": {"mass": 0.5, "least": 9, "most": 4}}, ScheduleError, "got least 9 and most 4"),
        ({"keep": {"mass": 0.5}, "stride": 2}, ScheduleError, "got stride 2 with keep by mass"),
        ({"keep": {"mass": 0.5}, "scorer": {"query": "uniform"}}, PruningError, "keep: got a mass"),
    ],
)
def test_what_is_wrong_is_one_line(changes, error, message):
    found = case("Qwen2-VL", ONE)
    with pytest.raises(error, match=message) as caught:
        enter(found.model, [stage(2, "after", 0.5) | changes])
    assert "\n" not in str(caught.value)
    assert "more)" not in str(caught.value)


def test_every_family_is_there():
    assert {"Qwen2-VL", "Gemma3", "LLaVA-1.5"} <= FAMILIES.keys()
