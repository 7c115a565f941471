"""What to cite for a comparison, beside its tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.schedule.citations import schedule_citations
from tokenlens.storage.files import write_text

FILE = "references.bib"


def compared_schedules(identities: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The schedules of a comparison's arms, from their identities; the unpruned one has none."""
    return [one["schedule"] for one in identities.values() if one["schedule"] is not None]


def write_references(directory: Path, comparison: Comparison) -> Path:
    """Write the BibTeX entries of everything compared into a directory of results."""
    identities = {name: results.identity for name, results in comparison.arms.items()}
    write_text(directory / FILE, schedule_citations(compared_schedules(identities)).bibtex)
    return directory / FILE
