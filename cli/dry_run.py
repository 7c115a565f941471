"""What the long commands print with --dry-run: what they would do, and how long it takes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import console, duration
from .output import results

if TYPE_CHECKING:
    from tokenlens.evaluation.running.estimate import Estimate

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print what would be done and an estimate; keep and write nothing."
    ),
]


def print_estimate(estimate: "Estimate", what: str, data: str, directory: Path) -> None:
    """Print the estimated cost of a run of several arms, and where it would write."""
    results(dry_run=estimate, answers=estimate.answers, directory=directory)
    console.print(
        f"{what}: {estimate.runs} runs over {estimate.samples} samples of {data}, "
        f"{estimate.answers} answers, {estimate.done} of them there. Prefill MACs: "
        f"{estimate.passes:.1f} times one unpruned pass. By the first {estimate.measured} samples "
        f"the rest takes about {duration(estimate.seconds)}."
    )
    console.print(f"It would write to {directory}; nothing is written.")
