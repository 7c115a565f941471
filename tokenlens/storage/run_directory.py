"""State of a run's directory: its manifest, and which of its shards are intact."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenlens.errors import ProfileError, ResultsError, TokenlensError
from tokenlens.storage.files import hash_json
from tokenlens.storage.seals import read_sealed, require
from tokenlens.storage.shard_files import DamagedShardError, check_shard

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = 1
KINDS: dict[str, tuple[type[TokenlensError], str]] = {
    "profile": (ProfileError, "tokenlens profile"),
    "results": (ResultsError, "tokenlens run"),
    "information": (ResultsError, "tokenlens information"),
    "paths": (ResultsError, "tokenlens information"),
    "importances": (ResultsError, "python -m tokenlens.analyses.studies.importances"),
}
"""Per kind of rows the error of what cannot be read, and the command that makes them."""


@dataclass(frozen=True)
class FoundRun:
    """State of a run's directory.

    Attributes:
        directory: where the manifest and the shards are.
        manifest: the whole manifest.
        counts: number of rows of every intact shard, by its index in the run.
        damaged: for the path of every damaged shard, the reason.
    """

    directory: Path
    manifest: dict[str, Any]
    counts: dict[int, int]
    damaged: dict[Path, str]

    def __len__(self) -> int:
        return sum(self.counts.values())

    @property
    def complete(self) -> bool:
        """Whether the run has finished and all its shards are intact."""
        return bool(self.manifest["complete"]) and not self.missing(self.manifest["rows"])

    def missing(self, total: int) -> list[range]:
        """The rows of `total` that no intact shard holds: missing shards and the last rows."""
        full, last = self.manifest["shard_rows"], max(self.counts, default=-1)
        holes = [range(i * full, (i + 1) * full) for i in range(last) if i not in self.counts]
        end = last * full + self.counts[last] if self.counts else 0
        return [*holes, range(end, total)] if end < total else holes


def find_run(directory: Path, kind: str) -> FoundRun:
    """Check every file of a run; `ProfileError` or `ResultsError` for an unusable manifest."""
    manifest = read_manifest(directory, kind)
    full, run = manifest["shard_rows"], hash_json(manifest["identity"])
    counts: dict[int, int] = {}
    damaged: dict[Path, str] = {}
    for path in sorted(directory.glob("shard-*.parquet")):
        place = path.stem.removeprefix("shard-")
        try:
            if not place.isascii() or not place.isdigit() or path.name != shard_name(int(place)):
                raise DamagedShardError("it is called like no shard")
            counts[int(place)] = check_shard(path, run, int(place))
        except DamagedShardError as error:
            damaged[path] = str(error)
    last = max(counts, default=-1)
    for index, rows in list(counts.items()):
        if not 0 < rows <= full or (index != last and rows != full):
            damaged[directory / shard_name(index)] = f"it has {rows} rows, expected {full}"
            del counts[index]
    return FoundRun(directory, manifest, counts, damaged)


def read_manifest(directory: Path, kind: str) -> dict[str, Any]:
    """The manifest of a run of this kind; the kind's error where it is missing or unusable."""
    error, command = KINDS[kind]
    path = directory / MANIFEST
    if not path.is_file():
        raise error(f"{directory} holds no {kind} (no {MANIFEST}); make one with `{command}`")
    manifest = read_sealed(path, error, f"delete {directory} and run `{command}` again")
    if (manifest.get("schema"), manifest.get("kind")) != (MANIFEST_SCHEMA, kind):
        raise error(
            f"{path} is of schema {manifest.get('schema')} and kind {manifest.get('kind')}, "
            f"expected schema {MANIFEST_SCHEMA} and kind {kind}; name another directory"
        )
    keys: dict[str, type] = {"identity": dict, "complete": bool, "shard_rows": int}
    require(manifest, path, error, keys | ({"rows": int} if manifest.get("complete") else {}))
    return manifest


def redo(found: FoundRun, kind: str) -> str:
    """The instruction that makes only the damaged or missing shards again."""
    command = shlex.join(_command(kind, found.manifest["identity"], found.directory))
    return f"run the command that made it again ({command}), which redoes this shard alone"


def _command(kind: str, identity: Mapping[str, Any], directory: Path) -> list[str]:
    """The command that made a run, as far as its manifest states it."""
    model, data = identity.get("model") or {}, identity.get("data") or {}
    if kind == "results":
        return ["tokenlens", "run", "--out", str(directory.parent)]
    options = {
        "--model": model.get("id"),
        "--revision": model.get("revision"),
        "--dtype": model.get("dtype"),
        "--data": data.get("source"),
        "--limit": data.get("samples"),
        "--out": directory.parent if kind == "paths" else directory,
    }
    words = [word for name, value in options.items() if value for word in (name, str(value))]
    if kind != "profile":
        return [*KINDS[kind][1].split(), *words]
    return ["tokenlens", "profile", *words, *profile_options(identity.get("options") or {})]


def profile_options(options: Mapping[str, Any]) -> list[str]:
    """What a profile's manifest says of its options, as a command's words.

    >>> profile_options({"per_head": True, "importance": "value-weighted"})
    ['--per-head', '--importance', 'value-weighted']
    """
    words = ["--per-head"] if options.get("per_head") else []
    for name in ("importance", "queries"):
        words += [f"--{name}", str(options[name])] if options.get(name) else []
    return words


def shard_name(index: int) -> str:
    """File name of the shard with this index in its run, counted from 0."""
    return f"shard-{index:05d}.parquet"
