"""Kill commands at random moments, let the same command go on, and compare its final rows.

    python -m tests.campaigns.kills --kills 100 --seed 0
    python -m tests.campaigns.kills --commands tune --times 10 --kills 10 --signals SIGKILL

Each command runs in a process of its own, forked from this one so that nothing is imported anew.
It is killed once to three times, or `--times`, by SIGKILL, SIGTERM, SIGHUP or SIGINT, each at a
random moment of the time it takes, and then runs to its end: its rows, times aside, must be those
of a run that nobody stopped, and no ending may leave a traceback or another exit code than its
signal's. Exit code 1 where any of that fails. Signals that the campaign itself ignores, as under
`nohup`, its commands do not.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.campaigns.small_run import fresh, run_to_exit, steady_rows, write_inputs
from tokenlens.tuning.study import FILE

_MODEL = ("--model", "model", "--data", "data")
COMMANDS: dict[str, tuple[str, ...]] = {
    "profile": ("profile", *_MODEL, "--batch-size", "2", "--out", "out"),
    "run": ("run", "--schedule", "plan.json", "--batch-size", "2", "--out", "out"),
    "compare": (
        *("run", "--compare", "random,stride", "--budget", "80%", *_MODEL),
        *("--batch-size", "2", "--out", "out"),
    ),
    "capability": (
        *("select-layers", "base", "--criterion", "capability", "--stages", "2"),
        *("--budget", "80%", "--batch-size", "2", "--rows", "out", "--out", "new.json"),
    ),
    "tune": (
        *("tune", "--budget", "80% MACs", "--no-labels", "--trials", "8", *_MODEL),
        *("--batch-size", "2", "--max-new-tokens", "2", "--out", "out"),
    ),
    "knock-out": ("knock-out", *_MODEL, "--every", "3", "--batch-size", "2", "--out", "out"),
}
_BEFORE = (
    ("profile", *_MODEL, "--out", "base"),
    ("select-layers", "base", "--stages", "2", "--budget", "80%", "--out", "plan.json"),
)
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_MAY_FAIL = {"capability"}
"""Ends with exit code 2 where a random model answers nothing right; its rows are there."""


def campaign(
    folder: Path,
    kills: int,
    seed: int,
    samples: int,
    names: Sequence[str] = tuple(COMMANDS),
    times: int | None = None,
    signals: Sequence[signal.Signals] = SIGNALS,
) -> tuple[Counter[str], list[str]]:
    """How often which signal met a running command, and what went wrong."""
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    _in_child(lambda: write_inputs(inputs, samples), folder / "log")
    for step in _BEFORE:
        _command(inputs, step)
    expected, durations = {}, {}
    for name in names:
        command = COMMANDS[name]
        work, began = fresh(inputs, folder / "work"), time.monotonic()
        _command(work, command)
        durations[name] = time.monotonic() - began
        expected[name] = _rows(work)
    draw, met, faults = random.Random(seed), Counter[str](), []
    while sum(met.values()) < kills:
        name = draw.choice(list(names))
        work = fresh(inputs, folder / "work")
        for _ in range(times or draw.randint(1, 3)):
            number = draw.choice(signals)
            code, said = _command(work, COMMANDS[name], number, draw.random() * durations[name])
            met[f"{name} {number.name}"] += code not in (0, 2)
            usual = (0, -number) if number == signal.SIGKILL else (0, 128 + number)
            if "Traceback" in said or code not in (*usual, *([2] if name in _MAY_FAIL else [])):
                faults.append(f"{name} {number.name}: exit code {code}: {said[-300:]}")
        code, said = _command(work, COMMANDS[name])
        if code not in (0, *([2] if name in _MAY_FAIL else [])) or _rows(work) != expected[name]:
            faults.append(f"{name}: other rows than uninterrupted, exit code {code}: {said[-300:]}")
    return met, faults


def _rows(work: Path) -> dict[str, str]:
    """All rows of a finished command, by their file, without the times they took."""
    shards = sorted((work / "out").rglob("shard-*.parquet"))
    rows = {path.relative_to(work).as_posix(): steady_rows(path).to_json() for path in shards}
    studies = sorted((work / "out").glob(FILE))
    return rows | {path.name: json.dumps(_trials(path)) for path in studies}


def _trials(journal: Path) -> list[dict[str, Any]]:
    """The trials of a search, whose lines also say when they ended."""
    lines = map(json.loads, journal.read_text(encoding="utf-8").splitlines())
    return [
        {name: line[name] for name in ("user_attrs", "params", "values", "state")}
        for line in lines
        if "trial" in (line.get("user_attrs") or {})
    ]


def _command(
    work: Path, command: tuple[str, ...], number: signal.Signals | None = None, after: float = 0.0
) -> tuple[int, str]:
    """Exit code and standard error of a command, killed after so many seconds where asked to."""
    log = work.parent / "log"
    code = _in_child(lambda: run_to_exit(work, *command), log, number, after)
    return code, log.read_text(errors="replace")


def _in_child(
    work: Callable[[], None], log: Path, number: signal.Signals | None = None, after: float = 0.0
) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(handle, stream)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        code = 1
        try:
            work()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    if number is not None:
        time.sleep(after)
        os.kill(child, number)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def main() -> int:
    """Run the campaign and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--times", type=int, default=None)
    parser.add_argument("--signals", default=",".join(one.name for one in SIGNALS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = options.commands.split(",")
        signals = [signal.Signals[name] for name in options.signals.split(",")]
        met, faults = campaign(
            Path(folder),
            options.kills,
            options.seed,
            options.samples,
            names,
            options.times,
            signals,
        )
    for fault in faults:
        sys.stdout.write(f"{fault}\n")
    sys.stdout.write(", ".join(f"{name} {count}" for name, count in sorted(met.items())) + "\n")
    sys.stdout.write(f"{sum(met.values())} kills of running commands, {len(faults)} faults\n")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
