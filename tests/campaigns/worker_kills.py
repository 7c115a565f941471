"""Kill workers, or the process that started them, while `tokenlens run --workers` goes on.

    python -m tests.campaigns.worker_kills --workers 2 --worker-kills 20 --driver-kills 10

Each time SIGKILL, at a random moment. After a worker's death the same run goes on; after its own
death the same command is given again. The rows at the end, times aside, must be those of one
process that nobody killed. Exit code 1 where they are not.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from tests.campaigns.small_run import finish, steady_rows, write_inputs

_COMMANDS = {
    "run": ("run", "--schedule", "plan.json", "--batch-size", "1", "--out", "out"),
    "profile": (
        *("profile", "--model", "model", "--data", "data"),
        *("--batch-size", "1", "--out", "out"),
    ),
}
_BEFORE = (
    ("profile", "--model", "model", "--data", "data", "--out", "base"),
    ("select-layers", "base", "--stages", "2", "--budget", "80%", "--out", "plan.json"),
)


def rows_of(folder: Path) -> dict[str, str]:
    """All rows of a finished command by their file, without the times they took."""
    shards = sorted((folder / "out").rglob("shard-*.parquet"))
    return {path.relative_to(folder).as_posix(): steady_rows(path).to_json() for path in shards}


def start(folder: Path, command: tuple[str, ...], workers: int) -> subprocess.Popen[bytes]:
    """The command in a process of its own, with workers."""
    entry = "from tokenlens.cli.main import main; main()"
    words = [sys.executable, "-c", entry, *command, "--workers", str(workers)]
    log = (folder / "log").open("ab")
    return subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)


def workers_below(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes that hold a model, as far as they run."""
    found = []
    with suppress(psutil.Error):
        for one in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):
                if "_Worker" in " ".join(one.cmdline()):
                    found.append(one)
    return found


def campaign(
    folder: Path, command: str, workers: int, kills: int, seed: int, *, driver: bool
) -> tuple[int, bool]:
    """How many kills met something, and whether the rows are those of one process."""
    draw, met = random.Random(seed), 0
    inputs = folder / "inputs"
    if not inputs.exists():
        inputs.mkdir(parents=True)
        write_inputs(inputs, 48)
        finish(inputs, _BEFORE)
    alone = Path(shutil.copytree(inputs, folder / f"alone-{command}", dirs_exist_ok=True))
    finish(alone, [_COMMANDS[command]])
    wanted, same = rows_of(alone), True
    while met < kills and same:
        work = folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(inputs, work)
        process = start(work, _COMMANDS[command], workers)
        while process.poll() != 0:
            if process.poll() is not None:
                if not driver:
                    break
                process = start(work, _COMMANDS[command], workers)
            if met < kills and _wait(lambda: _busy(process)):  # noqa: B023 - called at once
                time.sleep(draw.uniform(0.0, 6.0))
                met += _kill(process, draw, driver=driver)
            if driver or met >= kills:
                process.wait()
        same = process.wait() == 0 and rows_of(work) == wanted
    return met, same


def _busy(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None or bool(workers_below(process))


def _kill(process: subprocess.Popen[bytes], draw: random.Random, *, driver: bool) -> bool:
    """Whether a running worker, or the process that started them, was there to be killed."""
    with suppress(psutil.Error, IndexError):
        if process.poll() is None:
            draw.choice([psutil.Process(process.pid)] if driver else workers_below(process)).kill()
            return True
    return False


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
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ended = True
    with tempfile.TemporaryDirectory() as folder:
        for driver, kills in ((False, options.worker_kills), (True, options.driver_kills)):
            if not kills:
                continue
            met, same = campaign(
                Path(folder), options.command, options.workers, kills, options.seed, driver=driver
            )
            whom = "the process that started them" if driver else "workers"
            rows = "the rows of one process" if same else "OTHER ROWS"
            sys.stdout.write(f"{options.command}: {met} kills of {whom}: {rows}\n")
            sys.stdout.flush()
            ended &= same
    return int(not ended)


if __name__ == "__main__":
    sys.exit(main())
