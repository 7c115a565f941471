"""The schedule: where visual tokens are pruned, how they are scored, what becomes of the rest."""

from tokenlens.schedule.budget import Budget, parse_budget
from tokenlens.schedule.notes import BudgetNote, Why
from tokenlens.schedule.parts import Heads, Keep, MassKeep, ModelRef, Scorer, Stage
from tokenlens.schedule.schedule import Schedule, require_schedule

__all__ = [
    "Budget",
    "BudgetNote",
    "Heads",
    "Keep",
    "MassKeep",
    "ModelRef",
    "Schedule",
    "Scorer",
    "Stage",
    "Why",
    "parse_budget",
    "require_schedule",
]
