"""Provenance of the page: settings, hashes, versions, and the commands that made it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from tokenlens.reports.inputs import Inputs
from tokenlens.reports.nearby import from_here, near
from tokenlens.reports.rebuilt import (
    information_command,
    profile_command,
    report_command,
    run_command,
    select_command,
    tune_command,
)
from tokenlens.reports.wording import listed, readable_json
from tokenlens.schedule import Schedule
from tokenlens.selection.criterion_names import NAMES
from tokenlens.storage.invocation import current_command, shell_line
from tokenlens.storage.run_directory import read_manifest


@dataclass(frozen=True)
class Provenance:
    """Provenance of a page.

    Attributes:
        tables: facts as (name, value), one table per source.
        commands: in order, ready for a shell.
        rebuilt: a text on inputs whose commands were not stored; empty where all were stored.
    """

    tables: list[tuple[str, list[tuple[str, str]]]]
    commands: list[str]
    rebuilt: str


def provenance(inputs: Inputs) -> Provenance:
    """The provenance of the inputs, from their manifests."""
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
    if inputs.information_folder:
        manifest = read_manifest(inputs.information_folder, "information")
        facts = {"folder": str(inputs.information_folder), **manifest["identity"]}
        tables.append(("Information profile", [*_facts(facts), _versions(manifest["versions"])]))
    if found := inputs.tuning:
        facts = {"folder": str(found.directory), **found.identity}
        tables.append(("Search", [*_facts(facts), _versions(found.versions)]))
    if bench := inputs.bench:
        facts = {"file": str(bench.path), **bench.identity}
        measured = facts.pop("versions", {})
        tables.append(("Bench", [*_facts(facts), _versions(measured)]))
    tables.append(("Report", [_versions({"tokenlens": version("tokenlens")})]))
    steps = _steps(inputs)
    return Provenance(
        tables,
        list(
            dict.fromkeys(
                shell_line(list(map(from_here, kept or rebuilt))) for _, kept, rebuilt in steps
            )
        ),
        listed([name for name, kept, _ in steps if not kept]),
    )


def schedule_text(schedule: Schedule) -> str:
    """A schedule as in its file, with paths as `near` shows them."""
    return near(readable_json(schedule.as_json()))


def _steps(inputs: Inputs) -> list[tuple[str, Sequence[str] | None, list[str]]]:
    """Per step its output, the command stored with it, and a command rebuilt from its settings."""
    steps: list[tuple[str, Sequence[str] | None, list[str]]] = []
    schedule = inputs.schedule
    if inputs.profile:
        kept = inputs.profile.manifest.get("command")
        steps.append(("the profile", kept, profile_command(inputs.profile.manifest["identity"])))
    why = schedule.why if schedule else None
    by_profile = inputs.profile and why and why.criterion in (None, *NAMES)
    if schedule and why and (why.command or by_profile):
        source = str(inputs.profile.directory) if inputs.profile else ""
        steps.append(("the schedule", why.command, select_command(source, schedule)))
    if inputs.comparison and inputs.arm:
        identity = inputs.comparison.arms[inputs.arm].identity
        rebuilt = run_command(identity, inputs.comparison.plan)
        steps.append(("the results", inputs.comparison.command, rebuilt))
    if folder := inputs.information_folder:
        manifest = read_manifest(folder, "information")
        rebuilt = information_command(manifest["identity"])
        steps.append(("the information profile", manifest.get("command"), rebuilt))
    if found := inputs.tuning:
        steps.append(("the search", found.command, tune_command(found)))
    steps.append(("this page", current_command(), report_command(inputs)))
    return steps


def _versions(versions: Mapping[str, str]) -> tuple[str, str]:
    return "versions", ", ".join(f"{name} {number}" for name, number in versions.items())


def _facts(value: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested keys as words; values of None are left out."""
    facts: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(item, dict):
            facts += _facts(item, f"{name} ")
        elif item is not None:
            facts.append((name, near(str(item))))
    return facts
