"""How the commands speak: tables and closing lines on standard output."""

from math import isnan

from rich.console import Console

console = Console(highlight=False, soft_wrap=True)


def wrote(what: str, where: object) -> None:
    """Say what was written and where."""
    console.print(f"{what}: [bold]{where}[/bold]")


def next_command(command: str) -> None:
    """Say which command comes next."""
    console.print(f"Next: [cyan]{command}[/cyan]")


def percent(share: float) -> str:
    """A share as a percentage; a dash where it is not defined (no ground truth)."""
    return "-" if isnan(share) else f"{share:.1%}"
