"""Checks of the arguments of a cost report that need no model."""

import re
from pathlib import Path

from tokenlens.errors import BudgetError, ScheduleError
from tokenlens.schedule import Schedule
from tokenlens.wording.printable import shown


def asked_schedule(
    file: Path | None, method: str | None, budget: str | None, default: Path
) -> Schedule | None:
    """The schedule in a file, by default `default`; None where a method is to make one.

    Raises `ScheduleError` where both are asked for, or a budget without a method.
    """
    if method is None:
        if budget is not None:
            raise ScheduleError(
                f"the budget {shown(budget)} is of a method: name one (see `tokenlens methods`), "
                "or leave it out, since a schedule file has its own"
            )
        return Schedule.load(file or default)
    if file is not None:
        raise ScheduleError(
            f"the schedule {file} and the method {method!r} exclude each other: give one"
        )
    return None


def parse_size(text: str) -> tuple[int, int]:
    """Width and height, from "WxH"; `BudgetError` for anything else.

    >>> parse_size("1024x768")
    (1024, 768)
    """
    found = re.fullmatch(r"([0-9]+)x([0-9]+)", text, re.IGNORECASE)
    if found is None:
        raise BudgetError(f"picture: got {shown(text)}, expected width x height such as '1024x768'")
    width, height = (int(side) if len(side) < 6 else 0 for side in found.groups())
    if not (0 < width <= 20_000 and 0 < height <= 20_000):
        raise BudgetError(f"picture: got {shown(text)}, expected sides of 1 to 20000 pixels")
    return width, height


def refuse_both(picture: tuple[int, int] | None, n_visual: int | None) -> None:
    """Raise `BudgetError` for a picture's size beside a number of visual tokens."""
    if picture is not None and n_visual is not None:
        raise BudgetError(
            f"a picture of {picture[0]}x{picture[1]} and {n_visual} visual tokens exclude each "
            "other: give one"
        )
