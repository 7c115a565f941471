"""How long a command takes by two installations of tokenlens, in turns: is one slower?

    python -m benchmarks.command_time OLD/.venv/bin/tokenlens OLD-FOLDER \
        NEW/.venv/bin/tokenlens NEW-FOLDER --turns 3 -- run --schedule out.json --limit 40

Every start has a new folder with a copy of what is in its side's folder, such as a schedule or the
`profile` and `results` of its own demo, so that nothing is left of the start before. Printed are
medians of wall and processor seconds, with the least and the most, and their ratios, new over old.
"""

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.start_up import processor_s


def taken(command: Path, folder: Path, words: Sequence[str], place: Path) -> tuple[float, float]:
    """Wall and processor seconds of one start in `place`, which is made with a copy of `folder`."""
    shutil.copytree(folder, place)
    spent, began = processor_s(), time.perf_counter()
    subprocess.run([str(command.absolute()), *words], cwd=place, capture_output=True, check=True)  # noqa: S603 - given
    return time.perf_counter() - began, processor_s() - spent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("old", "old_folder", "new", "new_folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("words", nargs="+", help="the command, after --")
    given = parser.parse_args()
    sides = {"old": (given.old, given.old_folder), "new": (given.new, given.new_folder)}
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for turn in range(given.turns):
        for side in sides if turn % 2 else reversed(sides):
            with tempfile.TemporaryDirectory() as place:
                found[side].append(taken(*sides[side], given.words, Path(place) / "folder"))
    for kind, name in enumerate(("wall", "processor")):
        seconds = {side: [one[kind] for one in times] for side, times in found.items()}
        middles = {side: statistics.median(values) for side, values in seconds.items()}
        shown = ", ".join(
            f"{side} {middles[side]:.2f} s [{min(values):.2f}, {max(values):.2f}]"
            for side, values in seconds.items()
        )
        print(f"{name}: {shown}; new over old {middles['new'] / middles['old']:.3f}")


if __name__ == "__main__":
    main()
