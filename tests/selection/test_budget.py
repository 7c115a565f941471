"""The budget solver keeps its promise, or says what it could."""

import math
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tokenlens.errors import BudgetError
from tokenlens.registry import METHODS
from tokenlens.schedule import ModelRef, Schedule, Stage
from tokenlens.schedule.token_counts import keep_count, stage_tokens
from tokenlens.selection.solve import Budget, parse_budget, solve_budget, solved_schedule


@st.composite
def outlines(draw: st.DrawFn) -> tuple[list[Stage], int, int]:
    """Stages without their keeps, the model's depth, and a number of visual tokens."""
    layers = draw(st.integers(3, 40))
    n_visual = draw(st.integers(1, 800))
    count = draw(st.integers(1, min(4, layers)))
    firsts = sorted(draw(st.sets(st.integers(1, layers), min_size=count, max_size=count)))
    stages: list[Stage] = []
    for index, first in enumerate(firsts):
        bypassed = bool(stages) and stages[-1].disposal == "bypass"
        when = "before" if bypassed else draw(st.sampled_from(["after", "before"]))
        last = index == count - 1
        disposal = draw(st.sampled_from(["drop", "merge", "recycle"] + ["bypass"] * (not last)))
        merge = draw(st.one_of(st.just(0), st.integers(1, 50), st.floats(0.01, 1.0)))
        stages.append(
            Stage(
                score_layer=first - (when == "after"),
                when=when,
                keep=1.0,
                disposal=disposal,
                merge=0 if disposal in ("drop", "recycle") else merge,
            )
        )
    return stages, layers, n_visual


def with_keeps(stages, keep):
    return [stage.model_copy(update={"keep": keep}) for stage in stages]


def mean(stages, n_visual, layers):
    return sum(stage_tokens(stages, n_visual, layers)) / layers


def reach(stages, n_visual, layers):
    return mean(with_keeps(stages, 1), n_visual, layers), float(n_visual)


@given(outlines(), st.floats(0, 1))
@settings(max_examples=100)
def test_every_target_in_the_range_is_met_within_a_token(outline, where):
    stages, layers, n_visual = outline
    least, most = reach(stages, n_visual, layers)
    target = least + where * (most - least)
    solved = solve_budget(stages, target, n_visual=n_visual, layers=layers)
    schedule = Schedule(
        schema=1, method="m", model={"architecture": "A", "layers": layers}, stages=solved
    )
    entering = schedule.tokens_entering(n_visual, layers)
    assert abs(sum(entering) / layers - target) <= 0.5 + 1e-9
    counts = [keep_count(stage.keep, n_visual) for stage in solved]
    assert counts == sorted(counts, reverse=True)
    for before, after in zip(stages, solved, strict=True):
        assert after.model_copy(update={"keep": 1.0}) == before


@given(outlines(), st.floats(1e-6, 10))
@settings(max_examples=50)
def test_targets_outside_the_range_are_refused_with_the_range(outline, beyond):
    stages, layers, n_visual = outline
    least, most = reach(stages, n_visual, layers)
    for target in (least - beyond, most + beyond):
        with pytest.raises(BudgetError, match="out of reach") as caught:
            solve_budget(stages, target, n_visual=n_visual, layers=layers)
        assert f"{least:.4g} to {most:.4g} tokens" in str(caught.value)
        assert "\n" not in str(caught.value)
    for target in (least, most):
        solved = solve_budget(stages, target, n_visual=n_visual, layers=layers)
        assert abs(mean(solved, n_visual, layers) - target) <= 0.5


@given(outlines(), st.floats(0.1, 0.9))
@settings(max_examples=50)
def test_keeps_are_geometric(outline, where):
    stages, layers, n_visual = outline
    assume(n_visual > 50)
    least, most = reach(stages, n_visual, layers)
    solved = solve_budget(stages, least + where * (most - least), n_visual=n_visual, layers=layers)
    counts = [keep_count(stage.keep, n_visual) for stage in solved]
    if counts[0] == 1:
        return
    narrowest, widest = 0.0, 1.0
    for power, count in enumerate(counts, start=1):
        low = (count - 0.51) / n_visual if count > 1 else 0.0
        narrowest = max(narrowest, low ** (1 / power))
        widest = min(widest, ((count + 0.51) / n_visual) ** (1 / power))
    assert narrowest <= widest, "one ratio must give all counts"


@pytest.mark.parametrize("name", METHODS)
@given(layers=st.integers(5, 48), n_visual=st.integers(4, 800), where=st.floats(0.001, 1))
@settings(max_examples=50)
def test_every_preset_meets_its_target_or_says_what_it_can(name, layers, n_visual, where):
    """The range a refusal names is real: both its ends are met, each within a token."""
    model, target = ModelRef(architecture="A", layers=layers), Budget(where * n_visual, "tokens")

    def off(budget):
        schedule = Schedule.preset(name, model, budget=budget, n_visual=n_visual)
        entering = schedule.tokens_entering(n_visual, layers)
        return abs(sum(entering) / layers - budget.tokens(n_visual))

    try:
        assert off(target) <= 1
    except BudgetError as error:
        least, most = map(float, re.findall(r"can be (\S+) to (\S+) tokens", str(error))[0])
        assert not least <= target.amount <= most
        with pytest.raises(BudgetError, match="out of reach"):
            off(Budget(0.5 * least, "tokens"))
        inside = Budget(least + 0.01 * (most - least) + 1e-3 * most, "tokens")
        assert inside.amount > most or off(inside) <= 1


@pytest.mark.parametrize(("average", "published"), [(192, 0.560), (128, 0.420), (64, 0.192)])
def test_the_ratios_of_pyramiddrop_with_stages_2_8_16(average, published):
    stages = [
        Stage(score_layer=layer, when="after", keep=1.0, disposal="drop") for layer in (2, 8, 16)
    ]
    solved = solve_budget(stages, average, n_visual=576, layers=32)
    assert solved[0].keep == pytest.approx(published, abs=0.002)


def test_a_late_first_stage_cannot_reach_a_small_budget():
    stages = [
        Stage(score_layer=layer, when="after", keep=1.0, disposal="drop") for layer in (8, 16, 24)
    ]
    with pytest.raises(BudgetError, match=r"128 tokens .*144\.8 to 576 tokens \(25\.1% to 100"):
        solve_budget(stages, 128, n_visual=576, layers=32)


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("33%", 0.33, "ratio"),
        (" 33.3 % ", 0.333, "ratio"),
        ("100%", 1.0, "ratio"),
        ("0.33", 0.33, "ratio"),
        (".33", 0.33, "ratio"),
        ("1.0", 1.0, "ratio"),
        ("1", 1, "tokens"),
        ("48", 48, "tokens"),
        ("48.5", 48.5, "tokens"),
        ("48 tokens", 48, "tokens"),
        ("1 token", 1, "tokens"),
        (48, 48, "tokens"),
        (1, 1, "tokens"),
        (0.33, 0.33, "ratio"),
        (1e-05, 1e-05, "ratio"),
        (48.5, 48.5, "tokens"),
    ],
)
def test_budgets_are_read(text, amount, unit):
    budget = parse_budget(text)
    assert budget.amount == pytest.approx(amount, rel=1e-12)
    assert budget.unit == unit
    assert parse_budget(budget) is budget


@pytest.mark.parametrize(
    "text",
    [*"x.", "", "-1", "0", "0%", "101%", "0.0", "5 %%", "1e3", "33 percent", "nan", "0 tokens"],
)
def test_what_is_no_budget_is_named(text):
    with pytest.raises(BudgetError, match="budget: got") as caught:
        parse_budget(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("number", [True, 0, 0.0, -0.5, -3, math.inf, math.nan, None])
def test_what_is_no_number_of_tokens_is_named(number):
    with pytest.raises(BudgetError, match="budget: got") as caught:
        parse_budget(number)
    assert repr(str(number)) in str(caught.value)


@given(st.sampled_from([*range(1, 200)]), st.integers(50, 300))
def test_a_note_says_the_budget_again(tokens, n_visual):
    for budget in (Budget(tokens, "tokens"), Budget(tokens / 200, "ratio")):
        note = budget.note(n_visual)
        assert parse_budget(note.average) == budget
        assert note.n_visual == n_visual


def test_a_ratio_and_its_tokens_are_the_same_schedule():
    model = ModelRef(architecture="A", layers=16)
    stages = [Stage(score_layer=2, when="after", keep=1.0, disposal="drop")]
    ratio = solved_schedule("m", model, stages, parse_budget("50%"), n_visual=144)
    tokens = solved_schedule("m", model, stages, parse_budget(72), n_visual=144)
    assert ratio.stages == tokens.stages
    assert sum(ratio.tokens_entering(144, 16)) / 16 == pytest.approx(72, abs=0.5)
