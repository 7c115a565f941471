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
