"""What the built wheels hold: `python -m tests.campaigns.packaged dist`, which `make wheel` runs.

The size of tokenlens's own wheel, that what ships is there with its licences, and that nothing else
is: no tests, nothing from beside the package, no dependency that only its developers need.
"""

import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

LIMIT = 30_000_000
"""Bytes of the wheel of tokenlens."""
OWN, SMOL = "tokenlens", "tokenlens_smol_llava"
WANTED = {
    OWN: (
        *("tokenlens/py.typed", "tokenlens/cli/main.py", "tokenlens/analyses/*.py"),
        *("tokenlens/reports/templates/*.j2", "tokenlens/data/scenes/held-out.jsonl"),
        *("tokenlens/data/scenes/images/*", "tokenlens/data/photos/README.md"),
        *("tokenlens/data/photos/*.jpg", "tokenlens/data/tiny-qwen2-vl/model.safetensors"),
        *("tokenlens/data/tiny-llava/model.safetensors", "*.dist-info/licenses/LICENSE"),
    ),
    SMOL: (
        *(f"{SMOL}/{name}.safetensors" for name in ("adapters", "vision")),
        *(f"{SMOL}/config.json", f"{SMOL}/chat_template.jinja", "*.dist-info/licenses/LICENSE"),
    ),
}
"""Wheel to patterns of which each must have a file."""
REFUSED = ("tests", "smol-llava")
"""Folders that no wheel has within its package."""
DEVELOPERS = ("pytest", "mypy", "ruff", "mkdocs", "hypothesis", "build", "pre-commit", "twine")
"""Packages that nothing requires without an extra."""


def faults(wheel: Path) -> list[str]:
    """What is wrong with a wheel of tokenlens or of the parts of smol-llava, a line each."""
    name = wheel.name.partition("-")[0]
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
        metadata = next(file for file in files if file.endswith(".dist-info/METADATA"))
        required = _required(archive.read(metadata).decode())
    return [*_size(name, wheel), *_contents(name, files), *_developers(required)]


def _size(name: str, wheel: Path) -> Iterator[str]:
    size = wheel.stat().st_size
    if name == OWN and size > LIMIT:
        yield f"{size:,} bytes; at most {LIMIT:,}"


def _contents(name: str, files: Sequence[str]) -> Iterator[str]:
    for pattern in WANTED[name]:
        if not any(fnmatch(file, pattern) for file in files):
            yield f"has no {pattern}"
    for file in files:
        root, *folders = Path(file).parent.parts
        if root != name and not root.endswith(".dist-info"):
            yield f"{file} is outside {name}/"
        if refused := {root, *folders} & set(REFUSED):
            yield f"{file} is in {', '.join(refused)}/"


def _required(metadata: str) -> list[str]:
    """The distributions that are required whatever the extras."""
    lines = re.findall(r"^Requires-Dist: ([\w.-]+)(.*)$", metadata, re.MULTILINE)
    return [found for found, rest in lines if "extra ==" not in rest]


def _developers(required: Iterable[str]) -> Iterator[str]:
    yield from (f"requires {name}" for name in required if name in DEVELOPERS)


def main(folder: Path) -> int:
    """Print each wheel with its size and its faults; 1 if there is one, or a wheel is missing."""
    wheels = sorted(folder.glob("*.whl"))
    wrong = {wheel.name.partition("-")[0] for wheel in wheels} != set(WANTED)
    if wrong:
        print(f"{folder} does not hold one wheel each of {', '.join(WANTED)}")
    for wheel in wheels:
        found = faults(wheel)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {len(found) or 'no'} faults")
        for fault in found:
            print(f"  {fault}")
        wrong = wrong or bool(found)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
