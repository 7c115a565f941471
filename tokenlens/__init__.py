"""Measure which visual tokens each layer of a VLM cares about, choose where to prune, and prune.

The public names below are imported when first used, so that `import tokenlens` is quick.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenlens.errors import TokenlensError
    from tokenlens.evaluation.comparing.at_budgets import compare
    from tokenlens.evaluation.information.curves import Information
    from tokenlens.evaluation.information.measure import information
    from tokenlens.evaluation.running.evaluate import evaluate
    from tokenlens.evaluation.running.results import Results
    from tokenlens.measures.correlation import rank_correlation
    from tokenlens.measures.overlap import region_overlap
    from tokenlens.methods.plan import plan
    from tokenlens.models.layout import Layout
    from tokenlens.models.loading import load
    from tokenlens.models.vlm import VLM
    from tokenlens.probing.profile import Profile
    from tokenlens.probing.profiling import profile_samples
    from tokenlens.probing.recording import Recording, probe
    from tokenlens.pruning.cost.schedule_forecast import forecast
    from tokenlens.pruning.engine import prune
    from tokenlens.pruning.pipeline import pipeline
    from tokenlens.pruning.trace import Trace
    from tokenlens.reports.report import report
    from tokenlens.samples.dataset import load_samples
    from tokenlens.samples.sample import Sample
    from tokenlens.schedule import Schedule
    from tokenlens.schedule.budget import Budget
    from tokenlens.selection.layers import select_layers
    from tokenlens.tuning.tune import tune
    from tokenlens.tuning.tuning import Tuning

_HOMES = {
    "Budget": "tokenlens.schedule.budget",
    "Information": "tokenlens.evaluation.information.curves",
    "Layout": "tokenlens.models.layout",
    "Profile": "tokenlens.probing.profile",
    "Recording": "tokenlens.probing.recording",
    "Results": "tokenlens.evaluation.running.results",
    "Sample": "tokenlens.samples.sample",
    "Schedule": "tokenlens.schedule",
    "TokenlensError": "tokenlens.errors",
    "Trace": "tokenlens.pruning.trace",
    "Tuning": "tokenlens.tuning.tuning",
    "VLM": "tokenlens.models.vlm",
    "compare": "tokenlens.evaluation.comparing.at_budgets",
    "evaluate": "tokenlens.evaluation.running.evaluate",
    "forecast": "tokenlens.pruning.cost.schedule_forecast",
    "information": "tokenlens.evaluation.information.measure",
    "load": "tokenlens.models.loading",
    "load_samples": "tokenlens.samples.dataset",
    "pipeline": "tokenlens.pruning.pipeline",
    "plan": "tokenlens.methods.plan",
    "probe": "tokenlens.probing.recording",
    "profile_samples": "tokenlens.probing.profiling",
    "prune": "tokenlens.pruning.engine",
    "rank_correlation": "tokenlens.measures.correlation",
    "region_overlap": "tokenlens.measures.overlap",
    "report": "tokenlens.reports.report",
    "select_layers": "tokenlens.selection.layers",
    "tune": "tokenlens.tuning.tune",
}

__all__ = [
    "VLM",
    "Budget",
    "Information",
    "Layout",
    "Profile",
    "Recording",
    "Results",
    "Sample",
    "Schedule",
    "TokenlensError",
    "Trace",
    "Tuning",
    "__version__",
    "compare",
    "evaluate",
    "forecast",
    "information",
    "load",
    "load_samples",
    "pipeline",
    "plan",
    "probe",
    "profile_samples",
    "prune",
    "rank_correlation",
    "region_overlap",
    "report",
    "select_layers",
    "tune",
]

__version__ = version("tokenlens")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tokenlens' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
