"""Workers: processes on one machine or many that each hold the model, run by Ray Data."""

from tokenlens.workers.pool import LOCAL, Work, Workers

__all__ = ["LOCAL", "Work", "Workers"]
