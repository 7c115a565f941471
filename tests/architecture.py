"""Print how the library hangs together: `python -m tests.architecture`; fails where it should not.

Counted are all imports, those for types alone and those inside functions too. `tokenlens/__init__`
names what users call and stands right below the commands.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "tokenlens": "tokenlens",
    "cli": "tokenlens.cli",
    "analyses": "tokenlens.analyses",
    "data": "tokenlens.data",
}
ARROWS = [
    {"storage", "measures"},
    {"samples", "models"},
    {"schedule", "probing"},
    {"selection"},
    {"pruning"},
    {"methods"},
    {"evaluation"},
    {"benching"},
    {"tuning"},
    {"reports", "analyses", "harnesses"},
    {"cli"},
]
"""Rooms from the lowest to the highest: imports go down, or stay among neighbours."""
BASE = {"errors", "registry", "progress", "wording", "workers"}
"""What every room may use, and what uses none."""
APART = {"data"}
"""What ships, and the scripts that made it: used by no room."""
MOST_LOOSE, MOST_LINES, MOST_IN_FUNCTION, MOST_LONG = 4, 350, 60, 3
LONG = {
    "tokenlens.cli.run.run": "its parameters are the options of the command, a line of help each",
    "tokenlens.cli.cost.cost": "its parameters are the options of the command, a line of help each",
    "tokenlens.cli.select_layers.select_layers": "its parameters are the options of the command",
}
"""Functions that may be over 60 lines, their docstrings not counted, and why."""


@dataclass
class House:
    """The modules of the library by dotted name, and what each imports of the others."""

    files: dict[str, Path] = field(default_factory=dict)
    imports: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path = ROOT) -> "House":
        house = cls()
        for folder, package in FOLDERS.items():
            for file in sorted((root / folder).rglob("*.py")):
                parts = [package, *file.relative_to(root / folder).with_suffix("").parts]
                house.files[".".join(part for part in parts if part != "__init__")] = file
        for name, file in house.files.items():
            house.imports[name] = set(house.found(name, file)) - {name}
        return house

    def found(self, name: str, file: Path) -> Iterator[str]:
        """The modules of the library that a file imports, wherever in it."""
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name in self.files)
            elif isinstance(node, ast.ImportFrom):
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, node.module or ""]).strip(".") if node.level else ""
                base = base or node.module or ""
                for alias in node.names:
                    whole = f"{base}.{alias.name}"
                    if found := {whole, base} & self.files.keys():
                        yield whole if whole in found else base

    def circles(self) -> list[list[str]]:
        """Modules that import each other, directly or not: every strongly connected set of them."""
        return [sorted(part) for part in _strong_parts(self.imports) if len(part) > 1]

    def upward(self) -> list[str]:
        """Imports against the arrows."""
        return [
            f"{name} -> {other}"
            for name, others in self.imports.items()
            for other in sorted(others)
            if _height(other) > _height(name)
        ]

    def loose(self) -> list[str]:
        """Modules at the top of `tokenlens/` that are no room."""
        return sorted(
            name
            for name, file in self.files.items()
            if file.parent.name == "tokenlens" and file.name != "__init__.py"
        )

    def long_files(self) -> list[str]:
        """Files over 350 lines."""
        lines = {name: _lines(file).count("\n") for name, file in self.files.items()}
        return [f"{name}: {count}" for name, count in lines.items() if count > MOST_LINES]

    def long_functions(self) -> dict[str, int]:
        """Lines of the functions that have over 60, their docstrings not counted."""
        found = {}
        for name, file in self.files.items():
            for node in ast.walk(ast.parse(_lines(file))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    count = _length(node)
                    if count > MOST_IN_FUNCTION:
                        found[f"{name}.{node.name}"] = count
        return found


def _lines(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    said = ast.get_docstring(function) is not None
    words = first.end_lineno - first.lineno + 1 if said and first.end_lineno else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - words


def _height(name: str) -> float:
    """How high a module stands; one whose room is in no list stands nowhere, which is an error."""
    if name == "tokenlens":
        return len(ARROWS) - 1.5  # the public names: above all rooms but the commands
    room = name.split(".")[1]
    if room in BASE:
        return -1
    if room in APART:
        return len(ARROWS)
    return next(height for height, rooms in enumerate(ARROWS) if room in rooms)


def _strong_parts(graph: dict[str, set[str]]) -> list[set[str]]:
    """Tarjan's strongly connected components."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    parts: list[set[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        waiting.append(node)
        for other in graph.get(node, ()):
            if other not in order:
                visit(other)
            if other in waiting:
                lowest[node] = min(lowest[node], lowest[other])
        if lowest[node] == order[node]:
            place = waiting.index(node)
            parts.append(set(waiting[place:]))
            del waiting[place:]

    for node in graph:
        if node not in order:
            visit(node)
    return parts


def main() -> int:
    """Print the figures; 1 where one is not as it should be."""
    house = House.read()
    circles, upward, loose = house.circles(), house.upward(), house.loose()
    files, functions = house.long_files(), house.long_functions()
    for title, found, most in (
        ("circles", [" <-> ".join(circle) for circle in circles], 0),
        ("upward arrows", upward, 0),
        ("loose modules at the top of tokenlens/", loose, MOST_LOOSE),
        (f"files over {MOST_LINES} lines", files, 0),
        (
            f"functions over {MOST_IN_FUNCTION} lines",
            [
                f"{name}: {lines}, {LONG.get(name, 'no reason')}"
                for name, lines in functions.items()
            ],
            MOST_LONG,
        ),
    ):
        print(f"{title}: {len(found)} (at most {most})")
        print("".join(f"    {one}\n" for one in found), end="")
    held = not circles and not upward and not files and len(loose) <= MOST_LOOSE
    return int(not (held and functions.keys() <= LONG.keys() and len(functions) <= MOST_LONG))


if __name__ == "__main__":
    sys.exit(main())
