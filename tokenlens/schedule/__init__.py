"""The schedule: where visual tokens are pruned, how they are scored, and what happens to the rest."""

from tokenlens.schedule.parts import BudgetNote, Heads, Keep, ModelRef, Scorer, Stage, Why
from tokenlens.schedule.schedule import Schedule, require_schedule

__all__ = [
    "BudgetNote",
    "Heads",
    "Keep",
    "ModelRef",
    "Schedule",
    "Scorer",
    "Stage",
    "Why",
    "require_schedule",
]
