"""Every family under every kind of schedule against a full-length masked reference in float64."""

import pytest
import torch

import tokenlens as tl
from tests.references.full_length import FullLength
from tests.support.comparing import (
    compare,
    difference,
    keeping_all_is_bit_identical,
    probe_difference,
    read,
    references,
    tokens_for,
)
from tests.support.engine_support import stage
from tests.support.families import FAMILIES, ONE, RAGGED, TWO_PICTURES, case
from tests.support.family_models import LAYERS
from tests.support.family_plans import KEEP_ALL, named_plans, pairs_of, plan_for, sampled_plans
from tests.support.true_float64 import Float32Seen, true_float64

TOLERANCE = 1e-10
SEEN = 1e4 * TOLERANCE
"""What every control must differ by."""
SCORES = 1e-6
"""The trace holds importance in float32."""

EVERY_FAMILY = pytest.mark.parametrize("name", FAMILIES)
PLANS = pytest.mark.parametrize("plan_name", named_plans())


def plan_of(found, plan_name):
    return plan_for(found.model, named_plans(found.family.merges_from)[plan_name])


def assert_exact(found, plan, **options):
    difference_found = compare(found, plan, **options)
    assert difference_found.choices == ()
    assert difference_found.logits < TOLERANCE
    assert difference_found.scores < SCORES


@PLANS
@EVERY_FAMILY
def test_a_ragged_batch(name, plan_name):
    """Three samples, one of them with two pictures; the prompt and eight tokens after it."""
    found = case(name, RAGGED)
    assert_exact(found, plan_of(found, plan_name))


@pytest.mark.parametrize("sizes", [ONE, TWO_PICTURES], ids=["one picture", "two pictures"])
@EVERY_FAMILY
def test_a_batch_of_one(name, sizes):
    found = case(name, sizes)
    for plan_name in ("drop three", "merge three", "bypass three", "freeze three"):
        assert_exact(found, plan_of(found, plan_name))


@EVERY_FAMILY
def test_every_combination_of_options(name):
    found = case(name, RAGGED)
    for stages, scorer in sampled_plans(found.family.merges_from):
        assert_exact(found, plan_for(found.model, stages, **scorer), steps=2)


def test_the_sampled_schedules_hold_every_pair_of_options():
    pairs = set().union(*map(pairs_of, sampled_plans()))
    queries = ["query last", "query text", "query raters", "query all"]
    names = ("drop", "merge", "recycle", "bypass", "freeze")
    disposals = [f"disposal {name}" for name in names]
    for query in queries:
        for other in (
            *("heads mean", "heads some", "heads strongest", "rotary True", "rotary False"),
            *("decay None", "decay divide", "grid none", "grid some"),
            *("softmax all", "softmax visual", "when before", "when after", *disposals),
            *("keep ratio", "keep count", "keep all", "positions keep", "positions renumber"),
        ):
            assert (query, other) in pairs
    for disposal in disposals:
        for place in ("positions keep", "positions renumber"):
            assert (disposal, place) in pairs
    assert {(f"first {a}", f"then {b}") for a in disposals for b in disposals} <= pairs
    for query in ("query random", "query uniform"):
        assert {(query, "layer 0"), (query, "disposal recycle"), (query, "grid some")} <= pairs


SEVERAL = ((1, 1, 1, 1, 1), (0,), (0, 2, 1, 0, 2, 1))
"""Pictures enough for several clusters, and a few."""


@EVERY_FAMILY
def test_several_clusters(name):
    found = case(name, SEVERAL)
    first = max(2, found.family.merges_from)
    plan = plan_for(
        found.model,
        [stage(first, "after", 3, "recycle"), stage(4, "before", 2, "recycle")],
    )
    with torch.no_grad(), tl.prune(found.model, plan) as trace:
        found.model(**found.inputs)
    assert max(map(len, trace.stages[0].merged)) > 1
    assert_exact(found, plan, steps=2)


@EVERY_FAMILY
def test_a_further_turn_of_several_tokens(name):
    found = case(name, RAGGED)
    assert_exact(found, plan_of(found, "bypass three"), chunk=4)


@EVERY_FAMILY
def test_control_other_tokens_are_seen(name):
    """The comparison fails when the reference keeps the worst tokens at any one stage."""
    found = case(name, RAGGED)
    for plan_name in (
        *("drop before layer 1", "drop three"),
        *("merge three", "recycle three", "bypass three", "freeze three"),
    ):
        plan = plan_of(found, plan_name)
        for index in range(len(plan.stages)):
            control = compare(found, plan, steps=0, worst_at=index)
            assert control.choices
            assert control.logits > SEEN


@EVERY_FAMILY
def test_control_disposals_and_positions_are_seen(name):
    """The comparison fails when the reference drops what is merged, or keeps positions."""
    found = case(name, ONE)
    tokens = tokens_for(found, 2)
    with torch.no_grad(), true_float64():
        for plan_name in ("merge three", "recycle three", "bypass three", "freeze three"):
            stages = named_plans(found.family.merges_from)[plan_name]
            with tl.prune(found.model, plan_for(found.model, stages)):
                logits, _ = read(found.model, found.inputs, tokens)
            dropping = [stage(at["score_layer"], at["when"], at["keep"]) for at in stages]
            assert (
                difference(logits, references(found, plan_for(found.model, dropping)), tokens)
                > SEEN
            )
            other = {"keep": "renumber", "renumber": "keep"}
            moving = [{**at, "positions": other[at.get("positions", "keep")]} for at in stages]
            assert (
                difference(logits, references(found, plan_for(found.model, moving)), tokens) > SEEN
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@EVERY_FAMILY
def test_keeping_everything_is_bit_identical(name, dtype):
    for sizes in (ONE, RAGGED):
        found = case(name, sizes)
        assert keeping_all_is_bit_identical(found, plan_for(found.model, KEEP_ALL), dtype)
    less = plan_for(found.model, named_plans(2)["drop early"])
    assert not keeping_all_is_bit_identical(found, less, dtype), "the control is not seen"


@EVERY_FAMILY
def test_probe_rows_equal_eager_attention(name):
    """Every head's row in a padded batch, and each sample's whole maps by eager attention."""
    found = case(name, RAGGED)
    assert probe_difference(found) < TOLERANCE
    assert probe_difference(found, row_from_last=2) > 1e-3, "the control is not seen"


@EVERY_FAMILY
def test_the_comparison_is_in_float64_throughout(name):
    found = case(name, ONE)
    with torch.no_grad(), Float32Seen() as outside:
        found.model(**found.inputs)
    with torch.no_grad(), true_float64(), Float32Seen() as inside:
        found.model(**found.inputs)
    assert outside.count > 0
    assert inside.count == 0


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.window])
def test_windows_are_shorter_than_a_picture(name):
    """So that the schedules above cut tokens that some layers see and others do not."""
    found = case(name, RAGGED)
    with torch.no_grad(), tl.probe(found.model) as recording:
        found.model(**found.inputs)
    for importance in recording.importance:
        hidden = (importance == 0).sum(dim=1)
        assert ((hidden > 0) & (hidden < importance.shape[1])).any()


def test_deepstack_features_arrive_before_and_after_the_cut():
    """`drop early` stands between the layers they are added to: without them it is elsewhere."""
    found = case("Qwen3-VL", ONE)
    plan = plan_of(found, "drop early")
    with torch.no_grad(), true_float64():
        expected = FullLength(found.model, found.alone[0], plan).logits
        for missing in (0, 1):

            def without(_, args, kwargs, missing=missing):
                features = list(kwargs["deepstack_visual_embeds"])
                features[missing] = torch.zeros_like(features[missing])
                return args, {**kwargs, "deepstack_visual_embeds": features}

            handle = found.model.get_decoder().register_forward_pre_hook(without, with_kwargs=True)
            with tl.prune(found.model, plan):
                logits = found.model(**found.inputs).logits[0, -1]
            handle.remove()
            assert (logits - expected).abs().max() > SEEN
    assert LAYERS > 2
