"""`tokenlens information`: how each layer uses the picture, measured without labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import console, duration, lines, next_command, wrote
from .dry_run import DryRun
from .importing import importing
from .options import (
    DEFAULT_DATA,
    DEFAULT_MODEL,
    MOST,
    Adapter,
    BatchSize,
    Data,
    Device,
    DeviceMap,
    Dtype,
    Limit,
    Model,
    ModelOptions,
    Out,
    Quantize,
    Revision,
)
from .output import results
from .workers import RayAddress, WorkerCount, WorkerCpus, WorkerGpus, load_spread

if TYPE_CHECKING:
    from tokenlens.evaluation.information.curves import Information
    from tokenlens.evaluation.information.measure import Estimate


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("information", epilog="Example: tokenlens information --limit 100")(information)


def information(
    model: Model = None,
    data: Data = None,
    out: Out = None,
    limit: Limit = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Only samples of this task; may be repeated. Default: all."),
    ] = None,
    share: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Share of the visual tokens kept in the arms that keep some."
        ),
    ] = 0.2,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, max=MOST, help="Tokens after which an answer is cut off.")
    ] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random arms.")] = 0,
    dry_run: DryRun = False,
    batch_size: BatchSize = 8,
    revision: Revision = None,
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
    quantize: Quantize = None,
    adapter: Adapter = None,
    workers: WorkerCount = None,
    ray: RayAddress = None,
    worker_gpus: WorkerGpus = 0,
    worker_cpus: WorkerCpus = 1,
) -> None:
    """Measure how the model's own answer changes when layers run without the picture.

    Only pictures and questions of the calibration samples are used, no answers or boxes.
    Per layer, visual tokens are: removed from it on; not updated by this layer only;
    removed in this layer only; reduced from layer 3 on to those it ranks highest; reduced
    from it on to a random share. Then the paths that the preset `tokenlens` chooses from
    are followed, at 15 to 60 % of the MACs. A run that was stopped continues.
    """
    from tokenlens.samples.dataset import load_samples
    from tokenlens.storage.output_paths import information_directory

    name, source = model or DEFAULT_MODEL, data or DEFAULT_DATA
    loading = ModelOptions(name, revision, device, dtype, device_map, quantize, adapter)
    loading.check()
    samples = load_samples(source, "calibration", limit, task or ())

    with importing():
        from tokenlens.evaluation.information.measure import Options, estimate
        from tokenlens.evaluation.information.measure import information as measure

    options = Options(share, max_new_tokens, seed)
    options.check(batch_size)
    vlm, spread = load_spread(workers, ray, worker_gpus, worker_cpus, loading)
    directory = out or information_directory(loading.label, samples.name, len(samples))
    results(model=name, data=source, samples=len(samples), seed=seed, directory=directory)
    taken = None
    if spread is None or dry_run:
        taken = estimate(vlm, samples, directory, options=options, batch_size=batch_size)
        _announce(taken, samples.name)
    if dry_run:
        results(dry_run=taken)
        return
    given = {"batch_size": batch_size, "workers": spread, **vars(options)}
    found = measure(vlm, samples, directory, show_progress=True, **given)
    _write(found, directory)


def _announce(taken: "Estimate", name: str) -> None:
    console.print(
        f"Information: {taken.arms} forward passes over each of {taken.samples} samples of "
        f"{name}, {taken.done} of them there, and then up to {taken.path_arms} on fewer tokens; by "
        f"the first batch the rest takes about {duration(taken.seconds)}."
    )


def _write(found: "Information", directory: Path) -> None:
    """Print the curves, and write them as a table and figures beside their rows."""
    from tokenlens.analyses import information as analysis
    from tokenlens.reports.figures import FigureFolder
    from tokenlens.storage.files import write_bytes

    table = found.table()
    figures = FigureFolder(directory)
    for curve in analysis.MEANINGS:
        figures.add(curve, analysis.plot(table, curve))
    write_bytes(directory / "curves.csv", table.to_csv(index=False).encode())
    results(curves=table, horizons=analysis.horizons(table))
    lines(analysis.markdown(table))
    if found.paths is not None:
        paths = found.paths.table()
        write_bytes(directory / "paths.csv", paths.to_csv(index=False).encode())
        results(paths=paths)
        console.print()
        lines(analysis.paths_markdown(paths))
    console.print()
    for one, layer in analysis.horizons(table).items():
        where = "no layer" if layer is None else f"layer {layer}"
        console.print(f"Information horizon of {one} (agreement of 99 % and more): {where}.")
    wrote("Rows and figures", directory)
    next_command("select-layers", "--criterion", "agreement")
