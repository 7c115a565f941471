"""`tokenlens select-layers`: from a profile to a schedule."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .console import console, next_command, wrote

if TYPE_CHECKING:
    from tokenlens.selection.plan import LayerVerdict, Selection


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(
        "select-layers",
        epilog="Example: tokenlens select-layers --stages 3 --budget 33% --out out.json",
    )(select_layers)


def select_layers(
    profile: Annotated[
        Path | None,
        typer.Argument(help="Profile directory; default: the newest under ./tokenlens-out."),
    ] = None,
    stages: Annotated[int, typer.Option(min=1, help="How many layers to choose.")] = 3,
    criterion: Annotated[
        str,
        typer.Option(help="What a layer is scored by: region, average-precision, mass, pointing."),
    ] = "region",
    budget: Annotated[
        str,
        typer.Option(
            help="Visual tokens entering a layer, mean over layers: 33%, 0.33 or '48 tokens'; or "
            "MACs of the prefill, scoring and merging included: '50% MACs' or '1.2 TMACs'."
        ),
    ] = "33%",
    max_correlation: Annotated[
        float,
        typer.Option(
            min=-1.0,
            max=1.0,
            help="Layers chosen one after the other rank tokens at most this much alike.",
        ),
    ] = 0.9,
    out: Annotated[Path | None, typer.Option(help="Schedule file to write; default out.json.")] = (
        None
    ),
) -> None:
    """Choose the pruning layers by a profile, meet a budget and write the schedule."""
    from tokenlens.probing.profile import Profile
    from tokenlens.pruning.meter import meter_of
    from tokenlens.selection.plan import plan
    from tokenlens.workspace import SCHEDULE, newest_profile

    directory = profile or newest_profile()
    target = out or SCHEDULE
    selection = plan(
        Profile(directory),
        stages=stages,
        criterion=criterion,
        budget=budget,
        max_correlation=max_correlation,
        meter=meter_of,
    )
    selection.schedule.save(target)
    _print(selection, directory)
    wrote("Schedule", target)
    next_command(f"tokenlens run --schedule {target}")


def _print(selection: "Selection", directory: Path) -> None:
    table = Table(title=f"Layers of {directory} by {selection.criterion}", title_justify="left")
    table.add_column("layer", justify="right")
    table.add_column("score", justify="right")
    table.add_column("95 % interval")
    table.add_column("", no_wrap=True)
    table.add_column("why not")
    for verdict in selection.verdicts:
        table.add_row(*_cells(verdict), style="bold green" if verdict.chosen else None)
    console.print(table)
    for pair in selection.rejected:
        console.print(
            f"Layers {pair.first} and {pair.second} may not follow each other: they rank tokens "
            f"alike (Spearman {pair.correlation:.2f})."
        )
    for note in selection.notes:
        console.print(f"Note: {note}.")
    share = selection.average / selection.n_visual
    console.print(
        f"Chosen: layers {', '.join(map(str, selection.layers))} (area {selection.area:.3f}); "
        f"{selection.average:.1f} of {selection.n_visual} visual tokens per layer ({share:.1%})."
    )


def _cells(verdict: "LayerVerdict") -> tuple[str, ...]:
    return (
        str(verdict.layer),
        f"{verdict.score:.3f}",
        f"{verdict.low:.3f} … {verdict.high:.3f}",
        "◀ chosen" if verdict.chosen else "",
        verdict.reason,
    )
