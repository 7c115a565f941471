"""Rows by workers are those of one process, for every command that takes `--workers`.

    python -m tests.campaigns.worker_rows --workers 2 --samples 8

Each command runs on the first bundled scenes in this process, and again by workers of Ray, in
another folder. All rows and kept answers must be equal in every digit, times aside, and so must the
layers and trials that they lead to. Exit code 1 where they are not.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.campaigns.small_run import finish, fresh, rows_below

_SHORT = ("--max-new-tokens", "8")
COMMANDS = {
    "profile": ("profile", "--limit", "{samples}", "--out", "out"),
    "run": ("run", "--schedule", "plan.json", "--limit", "{samples}", *_SHORT, "--out", "out"),
    "compare": (
        *("run", "--compare", "swiftvlm,fastv,random", "--budget", "50%", "--limit", "{samples}"),
        *(*_SHORT, "--out", "out"),
    ),
    "knock-out": ("knock-out", "--limit", "{samples}", "--every", "8", "--out", "out"),
    "information": ("information", "--limit", "{samples}", *_SHORT, "--out", "out"),
    "capability": (
        *("select-layers", "profile", "--criterion", "capability", "--rows", "out"),
        *("--out", "chosen.json"),
    ),
    "agreement": (
        *("select-layers", "profile", "--criterion", "agreement", "--rows", "out"),
        *("--out", "chosen.json"),
    ),
    "tune": (
        *("tune", "--limit", "{samples}", "--held-out", "{samples}", "--trials", "2"),
        *("--min-agreement", "80%", "--profile", "profile", *_SHORT, "--out", "out"),
    ),
}
_NOTED = ("command", "sha256")
_BEFORE = (
    ("profile", "--limit", "{samples}", "--out", "profile"),
    ("select-layers", "profile", "--budget", "50%", "--out", "plan.json"),
)


def _without_command(text: str) -> str:
    """A file's text; of JSON without the command lines that it notes, and the hash over them."""
    if not text.startswith("{"):
        return text

    def rest(value: object) -> object:
        if isinstance(value, dict):
            return {key: rest(one) for key, one in value.items() if key not in _NOTED}
        return [rest(one) for one in value] if isinstance(value, list) else value

    return json.dumps(rest(json.loads(text)))


def found(folder: Path) -> dict[str, str]:
    """Rows, and what was chosen by them."""
    everything = rows_below(folder)
    if not everything:
        raise RuntimeError(f"no rows in {folder}")
    for name in ("trials.csv", "front.json"):
        for path in folder.rglob(name):
            everything[name] = _without_command(path.read_text("utf-8"))
    chosen = folder / "chosen.json"
    if chosen.exists():
        everything["chosen"] = json.dumps(json.loads(chosen.read_text("utf-8"))["stages"])
    return everything


def by_workers(folder: Path, command: Sequence[str], workers: int) -> None:
    """Run a command by workers, in a process of its own: a process knows one cluster."""
    entry = "from tokenlens.cli.main import main; main()"
    words = [sys.executable, "-c", entry, *command, "--workers", str(workers)]
    ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}: {ended.stderr[-1000:]}")


def differing(folder: Path, name: str, workers: int, samples: int) -> tuple[int, list[str]]:
    """How many files or folders of rows there are, and which of them differ."""
    command, *before = (
        [word.format(samples=samples) for word in words] for words in (COMMANDS[name], *_BEFORE)
    )
    inputs = folder / "inputs"
    if not (inputs / "plan.json").exists():
        inputs.mkdir(parents=True, exist_ok=True)
        finish(inputs, before)
    alone, shared = folder / f"{name}-alone", folder / f"{name}-ray"
    for work in (alone, shared):
        if not work.exists():
            fresh(inputs, work)
    finish(alone, [command])
    by_workers(shared, command, workers)
    wanted, others = found(alone), found(shared)
    everywhere = wanted.keys() | others.keys()
    return len(wanted), sorted(one for one in everywhere if wanted.get(one) != others.get(one))


def main() -> int:
    """Run every command both ways, and print which rows differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--command", action="append", choices=COMMANDS, help="by default all")
    parser.add_argument("--folder", type=Path, help="whose runs are taken up where they stopped")
    options = parser.parse_args()
    wrong = False
    with tempfile.TemporaryDirectory() as folder:
        for name in options.command or COMMANDS:
            began = time.monotonic()
            count, differ = differing(
                options.folder or Path(folder), name, options.workers, options.samples
            )
            told = f"DIFFERENT: {', '.join(differ)}" if differ else "equal"
            took = time.monotonic() - began
            sys.stdout.write(f"{name}: {count} sets of rows, {took:.0f} s: {told}\n")
            sys.stdout.flush()
            wrong |= bool(differ)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
