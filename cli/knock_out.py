"""`tokenlens knock-out`: up to which layer a model reads its picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import console, lines, percent, wrote
from .dry_run import DryRun, print_estimate
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
    import pandas as pd

    from tokenlens.models.vlm import VLM
    from tokenlens.samples.dataset import Samples
    from tokenlens.workers import Workers


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("knock-out", epilog="Example: tokenlens knock-out --limit 100 --every 2")(knock_out)


def knock_out(
    model: Model = None,
    data: Data = None,
    out: Out = None,
    limit: Limit = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Only samples of this task; may be repeated. Default: all."),
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, max=MOST, help="Measure only every n-th layer, from layer 3 on.")
    ] = 1,
    batch_size: BatchSize = 8,
    revision: Revision = None,
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
    quantize: Quantize = None,
    adapter: Adapter = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random fifths.")] = 0,
    workers: WorkerCount = None,
    ray: RayAddress = None,
    worker_gpus: WorkerGpus = 0,
    worker_cpus: WorkerCpus = 1,
    dry_run: DryRun = False,
) -> None:
    """Score the model without visual tokens from each layer on; a stopped run continues.

    Per layer: no token is kept from it on; a random fifth is kept from it on; the fifth
    it ranks highest is kept from layer 3 on (the paper's capability profile).

    It also prints the recall of targets and anchors in each layer's highest fifth, and the
    share of deep layers' important tokens that shallow layers would discard.
    """
    from tokenlens.samples.dataset import load_samples
    from tokenlens.storage.output_paths import answers_directory, knock_out_directory

    name = model or DEFAULT_MODEL
    loading = ModelOptions(name, revision, device, dtype, device_map, quantize, adapter)
    loading.check()
    samples = load_samples(data or DEFAULT_DATA, "held-out", limit, task or ())

    with importing():
        from tokenlens.analyses import knock_out as analysis

    vlm, spread = load_spread(workers, ray, worker_gpus, worker_cpus, loading)
    directory = out or knock_out_directory(loading.label, samples.name, len(samples))
    layers = range(2 if every == 1 else 3, vlm.layers + 1, every)
    answers = answers_directory(loading.label)
    results(model=name, data=samples.source, samples=len(samples), seed=seed, directory=directory)
    if dry_run:
        _estimate(vlm, samples, directory, answers, layers, seed, batch_size, spread)
        return
    table = analysis.compute(
        vlm,
        samples,
        directory,
        layers=layers,
        answers=answers,
        seed=seed,
        batch_size=batch_size,
        show_progress=True,
        workers=spread,
    )
    _print_scores(table, directory)
    _print_regions(vlm, samples, directory, batch_size, spread)
    wrote("Rows and figure", directory)


def _estimate(
    vlm: "VLM",
    samples: "Samples",
    directory: Path,
    answers: Path,
    layers: range,
    seed: int,
    batch_size: int,
    workers: "Workers | None",
) -> None:
    from tokenlens.analyses import knock_out as analysis
    from tokenlens.evaluation.comparing.estimate import estimate_comparison
    from tokenlens.evaluation.running.options import RunOptions
    from tokenlens.schedule import ModelRef

    taken, _ = estimate_comparison(
        vlm,
        samples,
        analysis.arms(ModelRef.of(vlm), layers, seed),
        directory,
        answers=answers,
        options=RunOptions(batch_size=batch_size, workers=workers),
    )
    print_estimate(taken, "Knock-out", samples.name, directory)


def _print_scores(table: "pd.DataFrame", directory: Path) -> None:
    from tokenlens.analyses import knock_out as analysis
    from tokenlens.evaluation.comparing.comparison import UNPRUNED
    from tokenlens.evaluation.metrics.agreement import reference_note
    from tokenlens.evaluation.running.results import Results
    from tokenlens.reports.figures import FigureFolder

    results(scores=table)
    FigureFolder(directory).add("knock-out", analysis.plot(table))
    lines(analysis.markdown(table))
    note = reference_note(Results.load(directory / UNPRUNED).outcomes)
    if note:
        console.print()
        console.print(f"{note}.")


def _print_regions(
    vlm: "VLM", samples: "Samples", directory: Path, batch_size: int, workers: "Workers | None"
) -> None:
    """Print the recall of regions, and what shallow layers would discard, by a profile."""
    from tokenlens.analyses import shallow_deep_overlap, target_recall
    from tokenlens.probing.profiling import profile_samples

    profile = profile_samples(
        vlm,
        samples,
        directory / "profile",
        batch_size=batch_size,
        show_progress=True,
        workers=workers,
    )
    recall = target_recall.compute(profile, samples)
    shallow, deep, share = shallow_deep_overlap.summary(shallow_deep_overlap.compute(profile))
    results(
        recall=recall,
        discarded={"shallow_layers": shallow, "deep_layers": deep, "share": share},
    )
    console.print()
    lines(target_recall.markdown(recall))
    console.print()
    console.print(
        f"Of the top 10 % of layers {deep[0]} to {deep[-1]}, {percent(share)} stand in the "
        f"bottom half of layers {shallow[0]} to {shallow[-1]}."
    )
