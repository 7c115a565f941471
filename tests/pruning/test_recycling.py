"""SparseVLM's recycling: how many tokens go on, which are clustered, and what becomes of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenlens as tl
from tests.references.published_rules import Reading, clusters, sparsevlm
from tests.support.engine_support import batch, model64, schedule, stage
from tests.support.families import case
from tests.support.true_float64 import true_float64
from tokenlens.errors import ScheduleError
from tokenlens.pruning.clustering import density_peaks
from tokenlens.pruning.disposal import StageDecision
from tokenlens.pruning.scoring import select
from tokenlens.pruning.tokens import Slots, Tokens
from tokenlens.registry import DISPOSALS
from tokenlens.schedule import ModelRef, Schedule
from tokenlens.schedule.disposal_kinds import clustered

RECYCLE = DISPOSALS["recycle"]
PUBLISHED = [
    ([300, 200, 110], [309, 204, 113]),
    ([303, 110, 36], [312, 117, 39]),
    ([66, 30, 17], [82, 32, 18]),
]
"""What SparseVLM keeps of 576 tokens, and how many go on (its code's lists for 192, 128, 64)."""


def recycling(*keeps, **more):
    """Stages after layers 1, 2 and 3."""
    return [
        stage(layer, "after", keep, "recycle", **more) for layer, keep in enumerate(keeps, start=1)
    ]


@pytest.mark.parametrize(("keeps", "alive"), PUBLISHED)
def test_the_published_numbers_of_tokens_go_on(keeps, alive):
    candidates = 576
    for keep, expected in zip(keeps, alive, strict=True):
        assert keep + RECYCLE.merged(0, candidates - keep) == expected
        candidates = expected
    plan = schedule(*recycling(*keeps))
    assert plan.tokens_entering(576, 6) == [576, *alive, alive[-1], alive[-1]]


def test_the_trace_counts_the_same():
    """Of 576 tokens in a model, alone and beside a sample of 12 that has none to lose."""
    model = model64()
    inputs = batch(model, (((24, 24),), ((3, 4),)))
    plan = schedule(*recycling(66, 30, 17))
    with torch.no_grad(), tl.prune(model, plan) as trace:
        model(**inputs)
    assert trace.tokens_per_layer[0].tolist() == [576, 82, 32, 18, 18, 18]
    assert trace.tokens_per_layer[1].tolist() == [12] * 6
    assert [len(found.merged[0]) for found in trace.stages] == [16, 2, 1]
    assert not any(len(found.merged[1]) for found in trace.stages)
    size = model.config.get_text_config().hidden_size
    pools = [(154, 16), (16, 2), (5, 1)]
    assert trace.cost.merging_macs.tolist() == [sum((n + k) * n * size for n, k in pools), 0]
    for found in trace.stages:
        assert not set(found.merged[0].tolist()) & set(found.selected[0].tolist())


@given(st.integers(1, 3000))
def test_never_more_are_clustered_than_are_left_nor_more_clusters_made(rest):
    assert 1 <= RECYCLE.merged(0, rest) <= clustered(rest) <= rest


def test_how_many_there_are_is_not_for_the_schedule_to_say():
    with pytest.raises(ScheduleError, match=r"merge 0\.1 with disposal 'recycle'"):
        schedule(stage(2, "after", 0.5, "recycle", merge=0.1))
    plan = schedule(stage(2, "after", 0.5, "recycle"))
    assert Schedule(**plan.as_json()) == plan


@settings(deadline=None)
@given(n=st.integers(1, 25), size=st.integers(1, 5), seed=st.integers(0, 99), data=st.data())
def test_clusters_are_those_of_a_loop(n, size, seed, data):
    count = data.draw(st.integers(1, n))
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(n, size, generator=generator, dtype=torch.float64)
    centres, member_of = density_peaks(states, count)
    expected = clusters(states, count)
    assert centres.tolist() == [members[0] for members in expected]
    for place, members in enumerate(expected):
        assert sorted(members) == (member_of == place).nonzero().flatten().tolist()


@pytest.mark.parametrize("size", [3, 48, 129])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_two_that_are_nearest_to_each_other_the_earlier_is_the_peak(size, dtype):
    """With two neighbours, itself among them, both are equally dense: a tie in every such pair."""
    for seed in range(50):
        states = torch.randn(21, size, generator=torch.Generator().manual_seed(seed)).to(dtype)
        states[13] = states[6] + 1e-2 * states[7]
        centres, _ = density_peaks(states, 2)
        assert centres[0] == 6


def test_tokens_that_are_alike_are_no_trouble():
    centres, member_of = density_peaks(torch.ones(12, 3), 2)
    assert centres.tolist() == [0, 1]
    assert member_of.tolist() == [0, 1] + [0] * 10


@pytest.mark.parametrize("misled", [False, True], ids=["", "control"])
def test_clusters_of_a_ragged_batch_are_the_means_of_the_best_of_the_rest(misled):
    """Against a loop; the control takes the worst of the rest instead."""
    counts, keeping = (70, 3, 45), (10, 3, 2)
    generator = torch.Generator().manual_seed(0)
    visual = torch.arange(71) >= 70 - torch.tensor(counts)[:, None]
    visual[:, -1] = False
    slots = Slots.of_input(visual, visual | (torch.arange(71) == 70))
    hidden = torch.randn(3, 71, 6, generator=generator, dtype=torch.float64)
    scores = torch.rand(3, 71, generator=generator, dtype=torch.float64)
    kept = select(scores, slots.visual, keeping)
    merging = tuple(RECYCLE.merged(0, n - k) for n, k in zip(counts, keeping, strict=True))
    assert merging == (2, 0, 2)
    disposed = RECYCLE.apply(StageDecision(Tokens(hidden, slots), kept, keeping, merging, scores))
    now = disposed.tokens.slots
    assert now.lengths == tuple(k + m + 1 for k, m in zip(keeping, merging, strict=True))
    assert now.stand_in is None
    for row in range(3):
        rest = (visual[row] & ~kept[row]).nonzero().flatten().tolist()
        ranked = sorted(rest, key=lambda place, row=row: float(scores[row, place]) * (-1) ** misled)
        pool = ranked[-(int(0.3 * len(rest)) + 1) :][::-1] if rest else []
        expected = {}
        for members in clusters(hidden[row, pool], merging[row]) if pool else []:
            expected[pool[members[0]]] = hidden[row, [pool[i] for i in members]].mean(0)
        going = {
            int(place): state
            for place, state, there in zip(
                now.index[row], disposed.tokens.hidden[row], now.present[row], strict=True
            )
            if there
        }
        assert sorted(going) == list(going), "in the order of the sequence"
        found = set(going) - set(kept[row].nonzero().flatten().tolist()) - {70}
        if misled:
            assert found != set(expected) or not rest, "the control is not seen"
            continue
        assert found == set(expected)
        for place, state in expected.items():
            assert torch.allclose(going[place], state, atol=1e-12, rtol=0)
        for place in set(going) - found:
            assert torch.equal(going[place], hidden[row, place])


MANY = ((1, 1, 1, 1), (0,), (0, 1, 0, 1, 0))
"""Pictures enough for several clusters, and one that makes a single one."""


@pytest.mark.parametrize("family", ["Qwen2-VL", "LLaVA-1.5"])
def test_what_goes_on_is_what_the_published_rule_makes(family):
    """Hidden states after the last stage: kept tokens, means of clusters, text, in their order."""
    found, entering = case(family, MANY), {}
    plan = Schedule.preset("sparsevlm", found.model, budget="45%")
    assert [at.score_layer for at in plan.stages] == [1, 2, 3]

    def look(_module, args, kwargs):
        entering["hidden"] = args[0] if args else kwargs["hidden_states"]

    with torch.no_grad(), true_float64():
        with tl.prune(found.model, plan) as trace:
            layer = found.model.get_decoder().layers[3]
            handle = layer.register_forward_pre_hook(look, with_kwargs=True)
            found.model(**found.inputs)
            handle.remove()
        assert max(len(places) for places in trace.stages[0].merged) > 1
        for row, (inputs, offset) in enumerate(zip(found.alone, found.offsets, strict=True)):
            reading = Reading(found.model, inputs)
            n_visual = int(reading.visual.sum())
            counts = [max(1, int(at.keep * n_visual + 0.5)) for at in plan.stages]
            chosen = sparsevlm(reading, counts, (1, 2, 3), cluster=True, rate=True)
            for at, places in zip(trace.stages, chosen, strict=True):
                assert (at.selected[row] - offset).tolist() == places
            alive = set(chosen[-1]) | set((trace.stages[-1].merged[row] - offset).tolist())
            assert reading.places[reading.visual].tolist() == sorted(alive)
            going = entering["hidden"][row, -reading.hidden.shape[1] :]
            assert (going - reading.hidden[0]).abs().max() < 1e-10
            control = Reading(found.model, inputs)
            sparsevlm(control, counts, (1, 2, 3), cluster=False, rate=True)
            least = min(len(control.hidden[0]), len(going))
            change = (going[-least:] - control.hidden[0, -least:]).abs().max()
            assert change > 1e-4, "the control is not seen"


def test_the_preset_says_what_entering_tokens_it_was_solved_for():
    """The published counts enter the layers of 32 with the averages that the preset names."""
    model = ModelRef(architecture="A", layers=32)
    for (keeps, _), entering in zip(PUBLISHED, (206.5, 145.4, 82.3), strict=True):
        plan = Schedule.preset("sparsevlm", model, budget=entering, n_visual=576)
        assert [at.first_layer for at in plan.stages] == [4, 8, 17]
        assert sum(plan.tokens_entering(576, 32)) / 32 == pytest.approx(entering, abs=0.5)
        by_hand = [
            at.model_copy(update={"keep": k}) for at, k in zip(plan.stages, keeps, strict=True)
        ]
        counts = plan.replace(stages=by_hand).tokens_entering(576, 32)
        assert sum(counts) / 32 == pytest.approx(entering, abs=0.05)
