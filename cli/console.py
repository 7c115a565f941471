"""How the commands speak: tables and closing lines on standard output."""

from math import isnan

from rich.console import Console
from rich.text import Text

console = Console(highlight=False, soft_wrap=True, markup=False)  # names may hold brackets


def wrote(what: str, where: object) -> None:
    """Say what was written and where."""
    console.print(Text.assemble(f"{what}: ", (str(where), "bold")))


def next_command(command: str) -> None:
    """Say which command comes next."""
    console.print(Text.assemble("Next: ", (command, "cyan")))


def percent(share: float) -> str:
    """A share as a percentage; a dash where it is not defined (no ground truth)."""
    return "-" if isnan(share) else f"{share:.1%}"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(8.4), duration(200), duration(9000)
    ('8 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
