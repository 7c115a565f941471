"""Kill workers, or the process that started them, or their cluster, while they work.

    python -m tests.campaigns.worker_kills --worker-kills 20 --driver-kills 10 --head-kills 5

Each time SIGKILL, at a random moment. After a worker's death the same run goes on; after its own
death the same command is given again. Where all processes of the cluster are killed, the command
must end by itself, in one line with an exit code that is not zero; the cluster is started again,
and the command goes on. The rows at the end, times aside, must be those of one process that nobody
killed, and the files that a killed command left must be the same files still. Exit code 1 where
they are not.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.campaigns.ray_head import Head
from tests.campaigns.small_run import finish, fresh, rows_below, write_inputs

_COMMANDS = {
    "run": (
        *("run", "--schedule", "plan.json", "--max-new-tokens", "16"),
        *("--batch-size", "1", "--out", "out"),
    ),
    "profile": (
        *("profile", "--model", "model", "--data", "data"),
        *("--batch-size", "1", "--out", "out"),
    ),
}
_BEFORE = (
    ("profile", "--model", "model", "--data", "data", "--out", "base"),
    ("select-layers", "base", "--stages", "2", "--budget", "80%", "--out", "plan.json"),
)
_WHOM = {
    "worker": "workers",
    "driver": "the process that started them",
    "head": "all processes of their cluster",
}
_BOUND = 120.0
"""Seconds within which a command ends whose cluster is gone."""


def files_of(folder: Path) -> dict[Path, int]:
    """The files of rows that a command has written so far, and when."""
    return {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("shard-*.parquet")}


@dataclass
class Killed:
    """A command with workers that is killed at random moments, and given again until it is done."""

    folder: Path
    command: tuple[str, ...]
    workers: int
    draw: random.Random
    head: Head | None = None
    faults: list[str] = field(default_factory=list)
    longest: float = 0.0

    def start(self) -> None:
        """The command in a process of its own."""
        entry = "from tokenlens.cli.main import main; main()"
        words = [sys.executable, "-c", entry, *self.command, "--workers", str(self.workers)]
        environment = dict(os.environ)
        if self.head:
            words += ["--ray", self.head.address]
            environment |= self.head.environment
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                words, cwd=self.folder, env=environment, stdout=log, stderr=log
            )

    def busy(self) -> bool:
        """Whether a worker holds a model, or the command has ended."""
        return self.process.poll() is not None or bool(self._workers())

    def _workers(self) -> list[psutil.Process]:
        above = self.head.process if self.head else self.process
        found = []
        with suppress(psutil.Error):
            for one in psutil.Process(above.pid).children(recursive=True) if above else ():
                with suppress(psutil.Error):
                    if "_Worker" in " ".join(one.cmdline()):
                        found.append(one)
        return found

    def kill(self, whom: str) -> bool:
        """Whether there was something to be killed."""
        if self.process.poll() is not None:
            return False
        with suppress(psutil.Error, IndexError):
            if whom == "head" and self.head:
                self.head.kill()
                self._end_by_itself()
                self.head.start()
            else:
                driver = [psutil.Process(self.process.pid)]
                self.draw.choice(driver if whom == "driver" else self._workers()).kill()
            return True
        return False

    def _end_by_itself(self) -> None:
        """How a command ends whose cluster is gone, and when."""
        began = time.monotonic()
        try:
            code = self.process.wait(_BOUND)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.longest = max(self.longest, time.monotonic() - began)
        said = (self.folder / "log").read_text(encoding="utf-8")
        lines = [line for line in said.splitlines() if line.startswith("tokenlens: ")]
        if code != 2 or len(lines) != 1 or "Traceback" in said:
            self.faults.append(f"ended with {code}: {said[-1000:]}")

    def finish(self, whom: str, kills: int) -> int:
        """Kill at most so many times, and let the command be done; how often it was killed."""
        met, starts = 0, 1
        self.start()
        while self.process.poll() != 0 and not self.faults:
            if self.process.poll() is not None:
                if whom == "worker" or starts > met + 3:
                    break
                self.start()
                starts += 1
            left = files_of(self.folder)
            if met < kills and _wait(self.busy):
                time.sleep(self.draw.uniform(0.0, 6.0))
                left = files_of(self.folder)
                met += self.kill(whom)
            if whom != "worker" or met >= kills:
                self.process.wait()
            if not left.items() <= files_of(self.folder).items():
                self.faults.append("files that were kept are others now")
        return met


def campaign(
    folder: Path, command: str, workers: int, kills: int, seed: int, whom: str
) -> tuple[int, float, list[str]]:
    """Kills that met something, the longest wait for an end in seconds, and what was wrong."""
    inputs, met, longest = folder / "inputs", 0, 0.0
    if not (inputs / "plan.json").exists():
        inputs.mkdir(parents=True)
        write_inputs(inputs, 48)
        finish(inputs, _BEFORE)
    alone = folder / f"alone-{command}"
    finish(alone if alone.exists() else fresh(inputs, alone), [_COMMANDS[command]])
    wanted, draw = rows_below(alone / "out"), random.Random(seed)
    head = Head(folder / "ray", workers + 1) if whom == "head" else None
    try:
        if head:
            head.start()
        while met < kills:
            work = fresh(inputs, folder / "work")
            one = Killed(work, _COMMANDS[command], workers, draw, head)
            met += one.finish(whom, kills - met)
            longest = max(longest, one.longest)
            if not one.faults and (one.process.returncode or rows_below(work / "out") != wanted):
                one.faults.append(f"other rows: {(work / 'log').read_text()[-1000:]}")
            if one.faults:
                return met, longest, one.faults
    finally:
        if head:
            head.kill()
    return met, longest, []


def _wait(until: Callable[[], bool], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        time.sleep(0.1)
    return until()


def main() -> int:
    """Run the campaigns and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--worker-kills", type=int, default=20)
    parser.add_argument("--driver-kills", type=int, default=10)
    parser.add_argument("--command", default="run", choices=sorted(_COMMANDS))
    parser.add_argument("--head-kills", type=int, default=5)
    parser.add_argument("--folder", help="for what a further campaign takes up again")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ended = True
    with tempfile.TemporaryDirectory() as folder:
        for whom, kills in (
            ("worker", options.worker_kills),
            ("driver", options.driver_kills),
            ("head", options.head_kills),
        ):
            if not kills:
                continue
            met, longest, faults = campaign(
                Path(options.folder or folder),
                options.command,
                options.workers,
                kills,
                options.seed,
                whom,
            )
            found = "\n".join(faults) or "the rows of one process"
            found += f"; ended after at most {longest:.0f} s" if whom == "head" else ""
            sys.stdout.write(f"{options.command}: {met} kills of {_WHOM[whom]}: {found}\n")
            sys.stdout.flush()
            ended &= not faults
    return int(not ended)


if __name__ == "__main__":
    sys.exit(main())
