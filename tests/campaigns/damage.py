"""Flip bits in, and cut off, every file of a finished run, and read it with the real commands.

    python -m tests.campaigns.damage --flips 500 --seed 0

A damage is *refused* (exit code 2, the file is named), *mended* (a warning names the file, and what
the command says and writes is as ever), *harmless* (no word, and all is as ever: white space, or a
key whose loss only takes the hash away), or it is a fault: *silent* (no word, another output),
*unnamed* (a word that names no file) or a *traceback*. Exit code 1 where there was a fault.

Files that no command reads (`UNREAD`, and the report with its figures, which are for people) are
not damaged; that nothing reads the tables is shown by deleting them and running every reader.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

from tests.campaigns.small_run import Outcome, finish, fresh, run, steady_rows, write_inputs

_MODEL = ("--model", "model", "--data", "data")
_STEPS = (
    ("profile", *_MODEL, "--out", "runs/profile"),
    ("select-layers", "runs/profile", "--stages", "2", "--budget", "80%", "--out", "runs/out.json"),
    ("run", "--schedule", "runs/out.json", "--out", "runs/single"),
    ("run", "--compare", "random,stride", "--budget", "80%", *_MODEL, "--out", "runs/many"),
)
_READERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "runs/profile": (
        ("select-layers", "runs/profile", "--stages", "2", "--budget", "80%", "--out", "new.json"),
    ),
    "runs/out.json": (("cost", "--schedule", "runs/out.json"),),
    "runs/single": (("report", "runs/single", "--pictures", "0", "--out", "new"),),
    "runs/many": (("report", "runs/many", "--pictures", "0", "--out", "new"),),
    "tokenlens-out": (
        ("run", "--schedule", "runs/out.json", "--out", "new"),
        ("run", "--compare", "random,stride", "--budget", "80%", *_MODEL, "--out", "new2"),
    ),
}
"""By the place of a file the commands that read it."""
UNREAD = ("table.md", "table.csv", "table.tex")
_COMPARED = ("new.json", "report.html", "table.csv", ".parquet")
"""Of what a reader writes, what must be as ever."""
FAULTS = ("silent", "unnamed", "traceback")


@dataclass(frozen=True)
class Damage:
    """One bit of a file flipped (`bit` counts from its start), or all from byte `cut` on gone."""

    file: str
    bit: int | None
    cut: int | None

    def do(self, folder: Path) -> None:
        """Damage the file."""
        path = folder / self.file
        content = bytearray(path.read_bytes())
        if self.bit is not None:
            content[self.bit // 8] ^= 1 << self.bit % 8
        path.write_bytes(content[: self.cut] if self.cut is not None else content)


def campaign(
    folder: Path, flips: int, seed: int, samples: int, places: Collection[str] = _READERS.keys()
) -> list[tuple[Damage, str, str]]:
    """Every damage to files at `places`, what came of it, and what was said of it."""
    whole, work = folder / "whole", folder / "work"
    work.mkdir(parents=True)
    write_inputs(work, samples)
    finish(work, _STEPS)
    fresh(work, whole)  # the readers run where the run was made: a model is known by its path
    files = sorted(file for file in _read_files(whole) if _place(file) in places)
    expected = {place: _read(fresh(whole, work), place) for place in _places(files)}
    _check_unread(whole, work, expected)
    draw = random.Random(seed)
    found = []
    for number in range(flips):
        file = files[number % len(files)]
        size = (whole / file).stat().st_size
        flip = draw.random() < 0.8
        damage = Damage(
            file, draw.randrange(8 * size) if flip else None, None if flip else draw.randrange(size)
        )
        damage.do(fresh(whole, work))
        got, wanted = _read(work, _place(file)), expected[_place(file)]
        judgement = _judge(file, got, wanted)
        said = _complaints(got)
        if judgement == "silent":
            said += "".join(f"\n  {line}" for line in _differences(got, wanted))
        found.append((damage, judgement, said))
    return found


def _read_files(whole: Path) -> list[str]:
    roots = (whole / "runs", whole / "tokenlens-out")
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    names = [path.relative_to(whole).as_posix() for path in files]
    return [name for name in names if not any(part in name for part in UNREAD)]


def _place(file: str) -> str:
    return next(place for place in _READERS if file.startswith(place))


def _places(files: list[str]) -> list[str]:
    return sorted({_place(file) for file in files})


Read = list[tuple[Outcome, dict[str, bytes]]]
"""Per command how it ended and what it wrote."""


def _read(work: Path, place: str) -> Read:
    read: Read = []
    for command in _READERS[place]:
        ended = run(work, *command)
        written = [work / command[-1], *(work / command[-1]).rglob("*")] if ended.code == 0 else []
        read.append(
            (
                ended,
                {
                    str(path.relative_to(work)): _lasting(path)
                    for path in written
                    if path.is_file() and path.name.endswith(_COMPARED)
                },
            )
        )
    return read


def _lasting(path: Path) -> bytes:
    """What does not depend on the clock: rows and a table's lines of times are left out."""
    if path.suffix == ".parquet":
        return steady_rows(path).to_json().encode()
    lines = path.read_bytes().splitlines()
    return b"\n".join(line for line in lines if b"time" not in line and b"prefill" not in line)


def _judge(file: str, got: Read, expected: Read) -> str:
    outcomes = [outcome for outcome, _ in got]
    if any(one.code not in (0, 2) or "Traceback" in one.err for one in outcomes):
        return "traceback"
    said = _complaints(got)
    if said and Path(file).name not in said:
        return "unnamed"
    if any(one.code == 2 for one in outcomes):
        return "refused" if said else "silent"
    same = not _differences(got, expected)
    if said:
        return "mended" if same else "silent"
    return "harmless" if same else "silent"


def _differences(got: Read, expected: Read) -> list[str]:
    """What commands printed and wrote that is not as ever, a line each."""
    found = []
    for (one, files), (other, wanted) in zip(got, expected, strict=True):
        found += unified_diff(_steady(other.out), _steady(one.out), lineterm="", n=0)
        found += [f"file {name}" for name in files.keys() ^ wanted.keys()]
        for name in files.keys() & wanted.keys():
            before, after = (part[name].decode().splitlines() for part in (wanted, files))
            found += unified_diff(before, after, name, name, lineterm="", n=0)
    return found


def _steady(text: str) -> list[str]:
    """What a command printed, without the tables that hold times and how often was timed.

    Titles are centred over those tables, so that the space around a line depends on times too.
    """
    return [
        line.strip()
        for line in text.splitlines()
        if not line.startswith(("│", "┃", "|")) and "timed" not in line
    ]


def _complaints(read: Read) -> str:
    lines = [line for outcome, _ in read for line in outcome.err.splitlines()]
    return " | ".join(line for line in lines if line.startswith(("tokenlens: ", "Warning: ")))


def _check_unread(whole: Path, work: Path, expected: dict[str, Read]) -> None:
    for place, wanted in expected.items():
        fresh(whole, work)
        for path in [*work.glob("runs/**/*"), *work.glob("tokenlens-out/**/*")]:
            name = path.relative_to(work).as_posix()
            if path.is_file() and any(part in name for part in UNREAD):
                path.unlink()
        if _judge("", _read(work, place), wanted) != "harmless":
            raise RuntimeError(f"a reader of {place} reads files that no command should")


def main() -> int:
    """Run the campaign and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(Path(folder), options.flips, options.seed, options.samples)
    for damage, judgement, said in found:
        if judgement in FAULTS:
            sys.stdout.write(f"{judgement}: {damage}: {said}\n")
    counts = Counter(judgement for _, judgement, _ in found)
    sys.stdout.write(", ".join(f"{name} {count}" for name, count in sorted(counts.items())) + "\n")
    harmless = Counter(Path(damage.file).name for damage, name, _ in found if name == "harmless")
    sys.stdout.write(f"harmless in {dict(harmless)}\n")
    return int(any(name in FAULTS for name in counts))


if __name__ == "__main__":
    sys.exit(main())
