"""Default directories of runs, and the search for the newest run."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenlens.errors import ProfileError, ResultsError
from tokenlens.storage.run_directory import MANIFEST, read_manifest
from tokenlens.storage.seals import read_sealed

ROOT = Path("tokenlens-out")
SCHEDULE = Path("out.json")
BENCH = "bench.json"
INFORMATION_ROWS = "rows"
TUNING_FRONT = "front.json"
"""A search has it when it has ended."""
REPORTED = ("profile", "comparison", "information", "tuning")
"""Kinds of directories that a report shows."""


@dataclass(frozen=True)
class Runs:
    """Input of a report: runs of one model, at most one of each kind, and the report's directory.

    `further` are those of other models, and what is a second of its kind; they are in the same
    report. `bench` is the file of a bench.
    """

    profile: Path | None
    results: Path | None
    report: Path
    further: tuple["Runs", ...] = ()
    information: Path | None = None
    tuning: Path | None = None
    bench: Path | None = None

    @property
    def directories(self) -> list[Path]:
        """All directories, those of `further` at the end."""
        own = (self.profile, self.results, self.information, self.tuning)
        return [path for path in own if path] + [
            path for one in self.further for path in one.directories
        ]


def slug(name: str) -> str:
    """A folder name for a model id, a path or a file.

    >>> slug("Qwen/Qwen2-VL-2B-Instruct")
    'qwen2-vl-2b-instruct'
    >>> slug("/models/my model/")
    'my-model'
    """
    last = name.rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^a-z0-9.]+", "-", last.lower()).strip("-.") or "model"


def profile_directory(
    model: str, data: str, importance: str = "attention", queries: str = "last"
) -> Path:
    """Directory of the profile of a model on a data set (`Samples.name`)."""
    usual = {"attention", "last"}
    kinds = [f"-{slug(kind)}" for kind in (importance, queries) if kind not in usual]
    return ROOT / slug(model) / f"profile-{slug(data)}{''.join(kinds)}"


def results_directory(model: str, schedule: Path) -> Path:
    """Directory of the results of a schedule file on its model."""
    return ROOT / slug(model) / f"results-{slug(schedule.stem)}"


def comparison_directory(model: str, data: str, samples: int) -> Path:
    """Directory of a comparison of methods on some samples of a data set (`Samples.name`)."""
    return ROOT / slug(model) / f"compare-{slug(data)}-{samples}"


def bench_file(model: str) -> Path:
    """File of the bench of a model, or of a shape."""
    return ROOT / slug(model) / BENCH


def answers_directory(model: str) -> Path:
    """Directory of the answer cache of a model, shared by its later runs."""
    return ROOT / slug(model) / "answers"


def knock_out_directory(model: str, data: str, samples: int) -> Path:
    """Directory of the knock-out rows of a model on some samples of a data set (`Samples.name`).

    It is one folder deeper than results, so that no report takes it for the newest results.
    """
    return ROOT / slug(model) / f"knock-out-{slug(data)}-{samples}" / "answers"


def capability_directory(model: str, data: str, samples: int) -> Path:
    """Directory of the capability runs of a model on some samples; as deep as knock-out rows."""
    return ROOT / slug(model) / f"capability-{slug(data)}-{samples}" / "answers"


def information_directory(model: str, data: str, samples: int) -> Path:
    """Directory of the information curves of a model on some samples; as deep as knock-out rows."""
    return ROOT / slug(model) / f"information-{slug(data)}-{samples}" / INFORMATION_ROWS


def tune_directory(model: str, data: str, samples: int, goal: str) -> Path:
    """The search for a schedule on so many samples of a data set (`Samples.name`)."""
    return ROOT / slug(model) / f"tune-{slug(data)}-{samples}-{slug(goal)}"


def show_page(model: str, photos: Sequence[Path]) -> Path:
    """The page about one photograph, or about several of one folder."""
    name = photos[0].stem if len(photos) == 1 else photos[0].resolve().parent.name
    return ROOT / slug(model) / "show" / f"{slug(name)}.html"


def newest_profile(root: Path = ROOT) -> Path:
    """The most recently written profile under `root`; `ProfileError` where there is none."""
    found = _newest(root, "profile")
    if found is None:
        raise ProfileError(
            f"no profile under {root.resolve()}: make one with `tokenlens profile`, or name one"
        )
    return found


def newest_profile_of(model: Mapping[str, Any], root: Path = ROOT) -> Path | None:
    """The most recently written finished profile of this model; None without one.

    `model` is the manifest's entry for the model (see `same_model`). Profiles of another importance
    than attention are left out: published methods score by attention.
    """
    return _newest_of(root.glob("*/*/manifest.json"), "profile", model)


def newest_information_of(model: Mapping[str, Any], root: Path = ROOT) -> Path | None:
    """The same of information profiles."""
    return _newest_of(root.glob("*/*/*/manifest.json"), "information", model)


def _newest_of(manifests: Iterable[Path], kind: str, model: Mapping[str, Any]) -> Path | None:
    """Of finished runs of this very model the one that was written to last."""
    found = [
        path
        for path in manifests
        if kind_of(path.parent) == kind
        and (identity := _identity_if_finished(path.parent, kind)) is not None
        and same_model(identity.get("model"), model)
        and "importance" not in (identity.get("options") or {})
    ]
    return _latest(found, kind)


def _identity_if_finished(directory: Path, kind: str) -> Mapping[str, Any] | None:
    """The identity of a run from its manifest; None where the run has not finished."""
    if kind == "tuning":
        manifest = read_sealed(directory / MANIFEST, ResultsError, "run `tokenlens tune` again")
        return dict(manifest["identity"]) if (directory / TUNING_FRONT).is_file() else None
    manifest = read_manifest(directory, kind)
    return dict(manifest["identity"]) if manifest["complete"] else None


def same_model(there: Any, here: Mapping[str, Any]) -> bool:
    """Whether two manifests' `identity.model` name the same checkpoint, in any number type.

    Compares the configuration's hash, and the weights' hash where both have one (manifests of
    earlier versions do not).
    """
    if not isinstance(there, Mapping) or there.get("config_hash") != here["config_hash"]:
        return False
    weights = there.get("weights"), here.get("weights")
    return None in weights or weights[0] == weights[1]


def find_runs(directories: Sequence[Path]) -> Runs:
    """The runs to report on: those named, or the newest results and their model's other runs.

    The report is written beside the first of them. Runs are together where they are the only ones
    of their kinds or of one model. A file is that of a bench. Raises `ResultsError` for a directory
    of no kind in `REPORTED`, for a second bench, and where there is nothing to report.
    """
    benches = [path for path in dict.fromkeys(directories) if path.is_file()]
    if len(benches) > 1:
        raise ResultsError(
            f"got the benches {benches[0]} and {benches[1]}; a report has room for one"
        )
    folders = dict.fromkeys(path for path in directories if path not in benches)
    named = {path: kind_of(path) for path in folders} or _newest_runs()
    for directory, kind in named.items():
        if kind not in REPORTED:
            raise ResultsError(
                f"{directory} is no profile and no results; name a directory that `tokenlens "
                "profile`, `run`, `information` or `tune` wrote"
            )
    place = _beside(*next(iter(named.items())))
    if not directories and (place / BENCH).is_file():
        benches = [place / BENCH]
    first, *further = [
        Runs(
            group.get("profile"),
            group.get("comparison"),
            place / "report",
            information=group.get("information"),
            tuning=group.get("tuning"),
        )
        for group in _groups(named)
    ]
    return replace(first, further=tuple(further), bench=next(iter(benches), None))


def _beside(directory: Path, kind: str | None) -> Path:
    """The folder of a model, in which a run is; information rows are one folder deeper."""
    deeper = kind == "information" and directory.name == INFORMATION_ROWS
    return directory.parent.parent if deeper else directory.parent


def _newest_runs() -> dict[Path, str | None]:
    results = _newest(ROOT, "comparison")
    near = results.parent.glob("*/manifest.json") if results else ROOT.glob("*/*/manifest.json")
    found: dict[Path, str | None] = {results: "comparison"} if results else {}
    if profile := _latest(near, "profile"):
        found[profile] = "profile"
    if not found:
        raise ResultsError(
            f"nothing to report under {ROOT.resolve()}: begin with `tokenlens profile`"
        )
    first, kind = next(iter(found.items()))
    model = _model_of(first, kind)
    if information := _newest_of(first.parent.glob("*/*/manifest.json"), "information", model):
        found[information] = "information"
    if tuning := _newest_of(first.parent.glob("*/manifest.json"), "tuning", model):
        found[tuning] = "tuning"
    return found


def _groups(named: Mapping[Path, str | None]) -> list[dict[str | None, Path]]:
    """Directories by kind, at most one of each: in the first group of their model that has room."""
    if len(set(named.values())) == len(named):
        return [{kind: directory for directory, kind in named.items()}]
    groups: list[tuple[Mapping[str, Any], dict[str | None, Path]]] = []
    for directory, kind in named.items():
        model = _model_of(directory, kind)
        fitting = (one for other, one in groups if same_model(other, model) and kind not in one)
        group = next(fitting, None)
        if group is None:
            group = {}
            groups.append((model, group))
        group[kind] = directory
    return [group for _, group in groups]


def _model_of(directory: Path, kind: str | None) -> Mapping[str, Any]:
    """The manifest's entry for the model; of a comparison, that of its first arm."""
    if kind == "comparison":
        arms = sorted(path.parent for path in directory.glob(f"*/{MANIFEST}"))
        if not arms:
            raise ResultsError(f"{directory} holds no arm; run the command that made it again")
        directory, kind = arms[0], "results"
    if kind == "tuning":
        return dict((_identity_if_finished(directory, kind) or {}).get("model", {}))
    return dict(read_manifest(directory, str(kind))["identity"].get("model", {}))


def kind_of(directory: Path) -> str | None:
    """The kind of a directory by its manifest, `profile` or `comparison`; None for anything else.

    Raises `ResultsError` for a damaged manifest of tokenlens.
    """
    path = directory / MANIFEST
    if not path.is_file():
        return None
    manifest = read_sealed(path, ResultsError, "delete it, or its folder, and run it again")
    kind = manifest.get("kind")
    return kind if isinstance(kind, str) else None


def _newest(root: Path, kind: str) -> Path | None:
    return _latest(root.glob("*/*/manifest.json"), kind)


def _latest(manifests: Iterable[Path], kind: str) -> Path | None:
    found = [path for path in manifests if kind_of(path.parent) == kind]
    return max(found, key=lambda path: path.stat().st_mtime_ns).parent if found else None
