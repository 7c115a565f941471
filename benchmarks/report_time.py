"""How long `tokenlens report` takes by two installations, in turns: is one slower?

    OLD/.venv/bin/tokenlens demo --out old && NEW/.venv/bin/tokenlens demo --out new
    python -m benchmarks.report_time OLD/.venv/bin/tokenlens old NEW/.venv/bin/tokenlens new

Each reports on the profile and the results of its own demo. Printed are medians of wall and
processor seconds, with the least and the most, and their ratios, new over old.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path


def report(command: Path, demo: Path, out: Path) -> tuple[float, float]:
    """Wall and processor seconds of one report on a demo's runs."""
    words = [command.absolute(), "report", demo / "profile", demo / "results", "--out", out]
    spent, began = os.times(), time.perf_counter()
    subprocess.run(list(map(str, words)), capture_output=True, check=True)  # noqa: S603 - given
    wall, after = time.perf_counter() - began, os.times()
    user = after.children_user - spent.children_user
    return wall, user + after.children_system - spent.children_system


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("old", "old_demo", "new", "new_demo"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--turns", type=int, default=4)
    given = parser.parse_args()
    sides = {"old": (given.old, given.old_demo), "new": (given.new, given.new_demo)}
    taken: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(given.turns):
            for side, (command, demo) in sides.items():
                taken[side].append(report(command, demo, Path(folder) / f"{side}-{turn}"))
    for place, kind in enumerate(("wall", "processor")):
        seconds = {side: [one[place] for one in found] for side, found in taken.items()}
        middles = {side: statistics.median(values) for side, values in seconds.items()}
        shown = ", ".join(
            f"{side} {middles[side]:.2f} s [{min(values):.2f}, {max(values):.2f}]"
            for side, values in seconds.items()
        )
        print(f"{kind}: {shown}; new over old {middles['new'] / middles['old']:.3f}")


if __name__ == "__main__":
    main()
