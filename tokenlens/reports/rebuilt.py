"""Command lines that would make a report's inputs, rebuilt from their stored settings.

They are used where no command was stored: for results of a Python program or an earlier version.
"""

from typing import Any

from tokenlens.evaluation.comparing.summary import OWN, Plan
from tokenlens.registry import METHODS
from tokenlens.reports.inputs import Inputs
from tokenlens.schedule import BudgetNote, Schedule
from tokenlens.storage.run_directory import profile_options
from tokenlens.tuning.stored import StoredTuning


def profile_command(identity: dict[str, Any]) -> list[str]:
    """Words of the command that makes this profile."""
    words = ["tokenlens", "profile", *_run_options(identity)]
    return [*words, *profile_options(identity["options"])]


def select_command(profile: str, schedule: Schedule) -> list[str]:
    """Words of the command that chooses these layers from the profile."""
    words = ["tokenlens", "select-layers", profile, "--stages", str(len(schedule.stages))]
    if schedule.why and schedule.why.criterion:
        words += ["--criterion", schedule.why.criterion]
    if schedule.budget:
        words += ["--budget", _budget(schedule.budget)]
    return words


def run_command(identity: Any, plan: Plan | None) -> list[str]:
    """Words of the command that makes these results; a schedule file has its default name."""
    return ["tokenlens", "run", *_what_ran(plan), *_run_options(dict(identity))]


def information_command(identity: dict[str, Any]) -> list[str]:
    """Words of the command that makes this information profile."""
    options = identity["options"]
    words = ["--share", f"{options['share']:g}", "--seed", str(options["seed"])]
    words += ["--max-new-tokens", str(options["max_new_tokens"])]
    return ["tokenlens", "information", *_run_options(identity), *words]


def tune_command(found: StoredTuning) -> list[str]:
    """Words of the command that makes this search, its number of trials left out."""
    goal = found.goal
    if goal.least is None:
        words = ["--budget", str(goal.budget).replace(" %", "%")]
        words += [] if goal.labels else ["--no-labels"]
    else:
        name = "--min-retained" if goal.labels else "--min-agreement"
        words = [name, f"{100 * goal.least:g}%"]
    words += ["--objective", goal.objective, "--seed", str(found.identity["seed"])]
    return ["tokenlens", "tune", *words, *_run_options(dict(found.identity))]


def report_command(inputs: Inputs) -> list[str]:
    """Words of the command that makes this page."""
    folders = [str(inputs.profile.directory)] if inputs.profile else []
    folders += [str(inputs.results)] if inputs.results else []
    folders += [str(inputs.information_folder)] if inputs.information_folder else []
    folders += [str(inputs.tuning.directory)] if inputs.tuning else []
    folders += [str(inputs.bench.path)] if inputs.bench else []
    return ["tokenlens", "report", *folders]


def _what_ran(plan: Plan | None) -> list[str]:
    """The schedule file, or the methods and budgets that were compared."""
    if plan is None:
        return ["--schedule", "out.json"]
    rows = [*plan.budgets.values(), *plan.left_out.values()]
    names = dict.fromkeys(method for methods in rows for method in methods)
    budgets = [budget for budget in {**plan.budgets, **plan.left_out} if budget != OWN]
    files = [name if name in METHODS else f"{name}.json" for name in names]
    words = ["--compare", ",".join(files)]
    return [*words, "--budget", ",".join(budgets).replace(" %", "%")] if budgets else words


def _run_options(identity: dict[str, Any]) -> list[str]:
    model, data = identity["model"], identity["data"]
    options = [("--model", model["id"]), ("--revision", model["revision"])]
    options += [(f"--{name}", model.get(name)) for name in ("quantize", "adapter")]
    options += [("--data", data["source"]), ("--limit", str(data["samples"]))]
    return [word for name, value in options if value for word in (name, value)]


def _budget(note: BudgetNote) -> str:
    """A budget in the form of the command line."""
    target, unit = (note.average, "") if note.macs is None else (note.macs, " MACs")
    ratio = isinstance(target, float) and target <= 1
    return f"{100 * target:.4g}%{unit}" if ratio else f"{target}{unit}"
