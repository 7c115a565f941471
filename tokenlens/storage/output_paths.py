"""Where runs are written unless the user says otherwise, and how the next command finds them."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenlens.errors import ProfileError, ResultsError

ROOT = Path("tokenlens-out")
SCHEDULE = Path("out.json")


@dataclass(frozen=True)
class Runs:
    """What a report is about: a profile, results, or both, and where the report goes."""

    profile: Path | None
    results: Path | None
    report: Path


def slug(name: str) -> str:
    """A folder name for a model id, a path or a file.

    >>> slug("Qwen/Qwen2-VL-2B-Instruct")
    'qwen2-vl-2b-instruct'
    >>> slug("/models/my model/")
    'my-model'
    """
    last = name.rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^a-z0-9.]+", "-", last.lower()).strip("-.") or "model"


def profile_directory(model: str, data: str) -> Path:
    """The profile of a model on a data set (`Samples.name`)."""
    return ROOT / slug(model) / f"profile-{slug(data)}"


def results_directory(model: str, schedule: Path) -> Path:
    """The results of a schedule file on its model."""
    return ROOT / slug(model) / f"results-{slug(schedule.stem)}"


def comparison_directory(model: str, data: str, samples: int) -> Path:
    """The comparison of methods on so many samples of a data set (`Samples.name`)."""
    return ROOT / slug(model) / f"compare-{slug(data)}-{samples}"


def answers_directory(model: str) -> Path:
    """What a model has answered, kept for every later run."""
    return ROOT / slug(model) / "answers"


def knock_out_directory(model: str, data: str, samples: int) -> Path:
    """The knock-out rows of a model on so many samples of a data set (`Samples.name`).

    They lie one folder deeper than results, so that no report takes them for the newest ones.
    """
    return ROOT / slug(model) / f"knock-out-{slug(data)}-{samples}" / "answers"


def capability_directory(model: str, data: str, samples: int) -> Path:
    """The re-runs of a model on so many samples of a data set; as deep as knock-out rows."""
    return ROOT / slug(model) / f"capability-{slug(data)}-{samples}" / "answers"


def newest_profile(root: Path = ROOT) -> Path:
    """The profile written to last under `root`; `ProfileError` where there is none."""
    found = _newest(root, "profile")
    if found is None:
        raise ProfileError(
            f"no profile under {root.resolve()}: make one with `tokenlens profile`, or name one"
        )
    return found


def newest_profile_of(config_hash: str, root: Path = ROOT) -> Path | None:
    """The finished profile of this very model that was written to last; None without one."""
    manifests = [
        path
        for path in root.glob("*/*/manifest.json")
        if (manifest := _manifest(path)).get("kind") == "profile"
        and manifest["complete"]
        and manifest["identity"]["model"]["config_hash"] == config_hash
    ]
    return _latest(manifests, "profile")


def find_runs(directories: Sequence[Path]) -> Runs:
    """The runs to report on: those named, or the newest results and their model's newest profile.

    The report goes beside the first of them. Raises `ResultsError` for a directory that is neither
    a profile nor results, for two of a kind, and where there is nothing to report.
    """
    named: dict[str, Path] = {}
    for directory in directories:
        kind = kind_of(directory)
        if kind not in ("profile", "comparison"):
            raise ResultsError(
                f"{directory} is no profile and no results; name a directory that `tokenlens "
                "profile` or `tokenlens run` wrote"
            )
        if kind in named:
            raise ResultsError(
                f"{directory} and {named[kind]} are both a {kind}; name one profile directory, one "
                "result directory, or both"
            )
        named[kind] = directory
    if not named:
        results = _newest(ROOT, "comparison")
        near = results.parent.glob("*/manifest.json") if results else ROOT.glob("*/*/manifest.json")
        named = {"comparison": results} if results else {}
        if profile := _latest(near, "profile"):
            named["profile"] = profile
    if not named:
        raise ResultsError(
            f"nothing to report under {ROOT.resolve()}: begin with `tokenlens profile`"
        )
    first = next(iter(named.values()))
    return Runs(named.get("profile"), named.get("comparison"), first.parent / "report")


def kind_of(directory: Path) -> str | None:
    """What a directory holds by its manifest, `profile` or `comparison`; None for anything else."""
    kind = _manifest(directory / "manifest.json").get("kind")
    return kind if isinstance(kind, str) else None


def _manifest(path: Path) -> dict[str, Any]:
    """What a manifest says; nothing where there is none, or something else."""
    try:
        manifest: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _newest(root: Path, kind: str) -> Path | None:
    return _latest(root.glob("*/*/manifest.json"), kind)


def _latest(manifests: Iterable[Path], kind: str) -> Path | None:
    found = [path for path in manifests if kind_of(path.parent) == kind]
    return max(found, key=lambda path: path.stat().st_mtime_ns).parent if found else None
