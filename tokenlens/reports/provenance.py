"""Where the page comes from: settings, hashes, versions, and the commands that make it."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from tokenlens.evaluation.comparing.arms import OWN
from tokenlens.evaluation.comparing.comparison import Plan
from tokenlens.registry import METHODS
from tokenlens.reports.inputs import Inputs
from tokenlens.reports.wording import command, select_command


@dataclass(frozen=True)
class Provenance:
    """Facts as (name, value), one table per source, and the commands in order."""

    tables: list[tuple[str, list[tuple[str, str]]]]
    commands: list[str]


def provenance(inputs: Inputs) -> Provenance:
    """What the inputs say of themselves."""
    tables = []
    if inputs.profile:
        manifest = inputs.profile.manifest
        facts = {"folder": str(inputs.profile.directory), **manifest["identity"]}
        tables.append(("Profile", [*_facts(facts), _versions(manifest["versions"])]))
    if inputs.comparison and inputs.arm:
        identity = dict(inputs.comparison.arms[inputs.arm].identity)
        del identity["schedule"]
        facts = {"folder": str(inputs.results), **identity}
        tables.append(("Results", [*_facts(facts), _versions(inputs.results_versions)]))
    tables.append(("Report", [_versions({"tokenlens": version("tokenlens")})]))
    return Provenance(tables, _commands(inputs))


def _versions(versions: dict[str, str]) -> tuple[str, str]:
    return "versions", ", ".join(f"{name} {number}" for name, number in versions.items())


def _facts(value: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested keys as words; what is None is left out."""
    facts: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(item, dict):
            facts += _facts(item, f"{name} ")
        elif item is not None:
            facts.append((name, str(item)))
    return facts


def _commands(inputs: Inputs) -> list[str]:
    """The command line of each step, as its manifest tells it; files have their default names."""
    commands = []
    if inputs.profile:
        commands.append(
            command("tokenlens", "profile", *_run_options(inputs.profile.manifest["identity"]))
        )
        if inputs.schedule and inputs.schedule.why:
            commands.append(select_command(str(inputs.profile.directory), inputs.schedule))
    if inputs.comparison and inputs.arm:
        identity = inputs.comparison.arms[inputs.arm].identity
        options = _run_options(dict(identity))
        commands.append(command("tokenlens", "run", *_what_ran(inputs.comparison.plan), *options))
    folders = [str(inputs.profile.directory)] if inputs.profile else []
    folders += [str(inputs.results)] if inputs.results else []
    commands.append(command("tokenlens", "report", *folders))
    return commands


def _what_ran(plan: Plan | None) -> list[str]:
    """The schedule file, or the methods and budgets that were compared."""
    if plan is None:
        return ["--schedule", "out.json"]
    rows = [*plan.budgets.values(), *plan.left_out.values()]
    names = dict.fromkeys(method for methods in rows for method in methods)
    budgets = [budget for budget in {**plan.budgets, **plan.left_out} if budget != OWN]
    files = [name if name in METHODS else f"{name}.json" for name in names]
    return ["--compare", ",".join(files), "--budget", ",".join(budgets).replace(" %", "%")]


def _run_options(identity: dict[str, Any]) -> list[str]:
    model, data = identity["model"], identity["data"]
    options = [("--model", model["id"]), ("--revision", model["revision"])]
    options += [("--data", data["source"]), ("--limit", str(data["samples"]))]
    words = [word for name, value in options if value for word in (name, value)]
    return [*words, "--per-head"] if identity.get("options", {}).get("per_head") else words
