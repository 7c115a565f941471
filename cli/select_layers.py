"""`tokenlens select-layers`: from a profile to a schedule."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .capability import Reruns
from .console import Table, cautions, console, next_command, wrote
from .options import MOST, Adapter, Device, DeviceMap, Dtype, Model, Quantize, Revision
from .output import results
from .workers import RayAddress, WorkerCount, WorkerCpus, WorkerGpus

if TYPE_CHECKING:
    from tokenlens.methods.plan import LayerVerdict, Selection


_REPORTED = (
    "criterion",
    "verdicts",
    "layers",
    "area",
    "rejected",
    "samples",
    "tokens_per_layer",
    "n_visual",
    "notes",
)
"""What scripts get of a selection, by its attributes."""
_RERUNS = "For --criterion capability and agreement, which run the model"


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(
        "select-layers",
        epilog="Example: tokenlens select-layers --stages 3 --budget 33% --out out.json, or, by "
        "re-runs: tokenlens select-layers --criterion capability --dry-run",
    )(select_layers)


def select_layers(
    profile: Annotated[
        Path | None,
        typer.Argument(help="Profile directory; default: the newest under ./tokenlens-out."),
    ] = None,
    stages: Annotated[int, typer.Option(min=1, help="How many layers to choose.")] = 3,
    criterion: Annotated[
        str,
        typer.Option(
            help="What a layer is scored by: region, average-precision, mass or pointing, read of "
            "the profile; or, by running the model, capability, the answers given on its choice, "
            "or agreement, the same without labels (see `tokenlens information`)."
        ),
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
            help="Greatest rank correlation of layers that are chosen one after the other.",
        ),
    ] = 0.9,
    merge: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Merged tokens per token set aside; 0 for none, then more tokens are kept.",
        ),
    ] = 0.1,
    out: Annotated[Path | None, typer.Option(help="Schedule file to write; default out.json.")] = (
        None
    ),
    model: Model = None,
    revision: Revision = None,
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
    quantize: Quantize = None,
    adapter: Adapter = None,
    data: Annotated[
        str | None,
        typer.Option(help="Samples to use instead of the profile's.", rich_help_panel=_RERUNS),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST, help="Use at most this many samples.", rich_help_panel=_RERUNS
        ),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(min=1, max=MOST, help="Samples per forward pass.", rich_help_panel=_RERUNS),
    ] = 8,
    rows: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the answers; default: beside other runs of the model, by data.",
            rich_help_panel=_RERUNS,
        ),
    ] = None,
    workers: WorkerCount = None,
    ray: RayAddress = None,
    worker_gpus: WorkerGpus = 0,
    worker_cpus: WorkerCpus = 1,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the choice, or the estimated cost of the runs it needs; write nothing.",
        ),
    ] = False,
) -> None:
    """Choose the pruning layers by a profile, meet a budget and write the schedule.

    --criterion capability is the paper's own: the model answers the profile's samples
    once unpruned, and once per layer on that layer's highest fifth of the visual tokens
    from layer 3 on. The estimated cost is printed first. A run that was stopped
    continues; after a finished one, layers are chosen without the model.
    """
    from tokenlens.schedule.budget import parse_budget
    from tokenlens.selection.criterion_names import MEASURED, check_criterion
    from tokenlens.storage.output_paths import SCHEDULE, newest_profile

    check_criterion(criterion)
    target_budget = parse_budget(budget)
    reruns = Reruns(
        *(model, revision, device, dtype, device_map, quantize, adapter),
        *(data, limit, rows, batch_size, dry_run),
        *(workers, ray, worker_gpus, worker_cpus),
    )
    if criterion not in MEASURED:
        reruns.refuse(criterion)
    directory = profile or newest_profile()

    from tokenlens.probing.profile import Profile

    source = Profile(directory)

    from tokenlens.methods.plan import plan

    if reruns.model and criterion in MEASURED:
        reruns.loading(source).check()
    by = reruns.scores(criterion, source) if criterion in MEASURED else criterion
    if by is None:
        return
    target = out or SCHEDULE
    selection = plan(
        source,
        stages=stages,
        criterion=by,
        budget=target_budget,
        max_correlation=max_correlation,
        merge=merge,
    )
    if not dry_run:
        selection.schedule.save(target)
    results(
        profile=directory,
        **{name: getattr(selection, name) for name in _REPORTED},
        average=selection.average,
        schedule=selection.schedule.as_json(),
    )
    _print(selection, directory)
    if dry_run:
        return
    wrote("Schedule", target)
    next_command("run", "--schedule", target)


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
    cautions(selection.cautions)
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
