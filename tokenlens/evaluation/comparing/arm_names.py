"""Parsers of a comparison's arms as a user writes them: comma-separated names and budgets."""

from collections.abc import Sequence
from pathlib import Path

from tokenlens.errors import ScheduleError
from tokenlens.methods import find_method
from tokenlens.registry import METHODS
from tokenlens.selection.solve import Budget, parse_budget
from tokenlens.storage.hub import HubPlace

EVERY = "all"


def budgets_of(text: str) -> list[Budget]:
    """Budgets separated by commas, without repeats; raises `BudgetError` for invalid text.

    >>> [str(budget) for budget in budgets_of("33%, 0.33,48 tokens")]
    ['33 %', '48 tokens']
    """
    return list(dict.fromkeys(parse_budget(part) for part in text.split(",")))


def sorted_names(names: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Methods and schedule files, without repeats, in the order given.

    Raises `ScheduleError` for a name that is neither, and for a file with the name of a method.
    """
    methods: dict[str, None] = {}
    files: dict[Path, None] = {}
    for name in (name.strip() for name in names):
        if name == EVERY:
            methods |= dict.fromkeys(METHODS)
        elif name not in METHODS and _is_file(name):
            files[Path(name)] = None
        else:
            methods[find_method(name).name] = None
    clash = next((file.stem for file in files if file.stem in methods), None)
    if clash:
        raise ScheduleError(f"{clash}.json is called like the method {clash!r}; rename the file")
    return list(methods), list(files)


def _is_file(name: str) -> bool:
    """Whether a name is of a schedule file, here or on the hub."""
    return name.endswith(".json") or HubPlace.parse(name) is not None or Path(name).is_file()
