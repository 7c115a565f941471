"""Published methods and baselines as presets of the one engine, a small file each."""

from typing import cast

from tokenlens.errors import ScheduleError
from tokenlens.methods.method import Method
from tokenlens.registry import METHODS
from tokenlens.wording.suggest import one_of


def find_method(name: str) -> Method:
    """The method called `name`; `ScheduleError` with the nearest names where there is none."""
    if name not in METHODS:
        raise ScheduleError(f"method: got {name!r}, expected {one_of(name, METHODS)}")
    return cast(Method, METHODS[name])
