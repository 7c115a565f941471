"""Importance "attention": the attention that a query token pays to a visual token."""

from tokenlens.probing.importances.importance import RowImportance
from tokenlens.registry import IMPORTANCE_SUMMARIES, IMPORTANCE_UNITS

IMPORTANCE = RowImportance(
    None,
    summary=IMPORTANCE_SUMMARIES["attention"],
    unit=IMPORTANCE_UNITS["attention"],
    source="SwiftVLM, arXiv 2602.03134, §3.1",
)
