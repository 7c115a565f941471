"""What is to be found: read early, and refused in one line where it contradicts itself."""

import sys

import pytest

from tokenlens.errors import BudgetError, OptionError
from tokenlens.schedule.budget import Budget
from tokenlens.tuning import goal as goals
from tokenlens.tuning.goal import MISSING, Goal

SHARES = [("98%", 0.98), ("98 %", 0.98), ("0.98", 0.98), (0.98, 0.98), ("100%", 1.0), (1.0, 1.0)]


@pytest.mark.parametrize(("written", "share"), SHARES)
def test_shares_as_people_write_them(written, share):
    assert Goal.of(min_retained=written).least == pytest.approx(share)
    assert Goal.of(min_agreement=written).least == pytest.approx(share)


@pytest.mark.parametrize("wrong", ["0", "0%", "98", "101%", "-1%", "nan", "inf", "", "9" * 400])
def test_what_is_no_share_is_refused(wrong):
    with pytest.raises(OptionError, match="--min-retained: got") as refused:
        Goal.of(min_retained=wrong)
    assert len(str(refused.value)) <= 500


def test_exactly_one_goal():
    with pytest.raises(OptionError, match="got none of them, expected exactly one"):
        Goal.of()
    with pytest.raises(OptionError, match="got --budget and --min-retained, expected exactly one"):
        Goal.of("33% MACs", "98%")
    with pytest.raises(OptionError, match="got --min-retained and --min-agreement"):
        Goal.of(None, "98%", "98%")


def test_what_does_not_go_together():
    with pytest.raises(OptionError, match="use --min-agreement"):
        Goal.of(min_retained="98%", labels=False)
    with pytest.raises(OptionError, match="--objective: got 'flops'"):
        Goal.of("33%", objective="flops")
    with pytest.raises(BudgetError, match="budget: got"):
        Goal.of("a lot")


def test_agreement_looks_at_no_labels():
    assert Goal.of(min_retained="98%").labels
    assert not Goal.of(min_agreement="98%").labels


def test_budgets_are_within_the_budget_or_cover_the_range():
    within = Goal.of("40% MACs")
    assert within.budgets[0] == within.start_budgets[0] == Budget(0.4, "MACs ratio")
    assert all(one.amount <= 0.4 for one in within.budgets)
    free = Goal.of(min_retained="98%")
    assert set(free.start_budgets) < set(free.budgets)
    assert list(free.budgets) == sorted(free.budgets, key=lambda one: -one.amount)


def test_a_missing_optuna_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(goals, "find_spec", lambda _: None)
    with pytest.raises(OptionError, match=r"pip install 'tokenlens\[tune\]'"):
        goals.require_optuna()
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "tokenlens.tuning.study", raising=False)
    with pytest.raises(OptionError) as refused:
        __import__("tokenlens.tuning.study")
    assert str(refused.value) == MISSING
