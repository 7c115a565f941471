"""How long commands take to start, beside `python -c pass` and `import torch`, in turn in one run.

    python -m benchmarks.start_up --rounds 5

Printed are medians of processor seconds, which a busy machine lengthens least, and their ratios.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

_MAIN = "import sys; from tokenlens.cli.main import main; sys.argv[0] = 'tokenlens'; main()"
BARE, TORCH = "python -c pass", "import torch"
COMMANDS = {
    "--help": ["--help"],
    "models": ["models"],
    "methods": ["methods"],
    "benchmarks": ["benchmarks"],
    "env": ["env"],
    "cost of a preset": ["cost", "--method", "fastv"],
    "refusal: report of an empty folder": ["report", "."],
    "refusal: profile of an empty folder": ["profile", "--data", "."],
    "refusal: bench of an unknown shape": ["bench", "--like", "nobody"],
}


def programs() -> dict[str, list[str]]:
    """What is started, by the name that is printed."""
    own = {name: [sys.executable, "-c", _MAIN, *given] for name, given in COMMANDS.items()}
    bare = [sys.executable, "-c", "pass"]
    return {BARE: bare, TORCH: [sys.executable, "-c", "import torch"], **own}


def measure(rounds: int, folder: Path) -> dict[str, list[float]]:
    """Processor seconds of every start in an empty folder; the first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in programs()}
    for turn in range(rounds + 1):
        for name, words in programs().items():
            began = processor_s()
            subprocess.run(words, cwd=folder, capture_output=True, check=False)  # noqa: S603 - ours
            if turn:
                found[name].append(processor_s() - began)
    return found


def processor_s() -> float:
    """Processor seconds of all processes that were started and have ended."""
    spent = os.times()
    return spent.children_user + spent.children_system


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        found = measure(rounds, Path(folder))
    middle = {name: statistics.median(times) for name, times in found.items()}
    print(f"| command | processor s, median of {rounds} | of {BARE} | of {TORCH} |")
    print("| --- | ---: | ---: | ---: |")
    for name, seconds in middle.items():
        of = (seconds / middle[other] for other in (BARE, TORCH))
        print(f"| {name} | {seconds:.2f} | {' | '.join(f'{ratio:.2f}' for ratio in of)} |")


if __name__ == "__main__":
    main()
