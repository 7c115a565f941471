"""Where the time of one `tokenlens run` goes, in wall seconds.

    python -m benchmarks.run_phases --schedule out.json --limit 40

Options are those of `tokenlens run`; it runs in a new folder, so that no answer is known before.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()
SPENT: dict[str, float] = {}


def timed(name: str, own: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose seconds are added to a phase."""

    def run(*args: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return own(*args, **options)
        finally:
            SPENT[name] = SPENT.get(name, 0.0) + time.perf_counter() - began

    return run


def watch() -> None:
    """Time the parts of a run; what they stand on is imported here, as the command would."""
    began = time.perf_counter()
    from tokenlens.cli import run
    from tokenlens.cli.importing import importing

    SPENT["command line"] = time.perf_counter() - began
    began = time.perf_counter()
    with importing():
        from tokenlens.evaluation.comparing import compare
        from tokenlens.evaluation.running.run import Run
        from tokenlens.samples import dataset
    SPENT["imports of torch and transformers"] = time.perf_counter() - began
    changes: list[tuple[Any, str, str]] = [
        (dataset, "load_samples", "samples"), (run, "load_spread", "model"),
        (compare, "time_arms", "timing of the arms"), (Run, "_fill", "other answers"),
        (Run, "_write", "rows"),
    ]  # fmt: skip
    for owner, name, phase in changes:
        setattr(owner, name, timed(phase, getattr(owner, name)))


def main() -> None:
    """Run, and print a line for each phase."""
    words = [
        str(Path(word).absolute()) if word.endswith(".json") else word for word in sys.argv[1:]
    ]
    watch()
    from tokenlens.cli.main import main as command

    sys.argv = ["tokenlens", "run", *words]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            command()
        except SystemExit as end:
            if end.code:
                raise
        os.chdir("/")
    SPENT["all else"] = time.perf_counter() - BEGAN - sum(SPENT.values())
    for name, seconds in SPENT.items():
        print(f"{seconds:6.2f} s  {name}", file=sys.stderr)


if __name__ == "__main__":
    main()
