"""`tokenlens profile`: record every layer's attention from text to visual tokens."""

from typing import Annotated, Any

import typer

from .console import console, next_command, wrote
from .dry_run import DryRun
from .importing import importing
from .options import (
    DEFAULT_DATA,
    DEFAULT_MODEL,
    Adapter,
    BatchSize,
    Data,
    Device,
    DeviceMap,
    Dtype,
    Importance,
    Limit,
    Model,
    ModelOptions,
    Out,
    Quantize,
    Revision,
    check_importance,
)
from .output import results
from .workers import RayAddress, WorkerCount, WorkerCpus, WorkerGpus, load_spread


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(
        "profile",
        epilog="Example: tokenlens profile --model qwen2-vl-2b --data photos.jsonl --limit 200",
    )(profile)


def profile(
    model: Model = DEFAULT_MODEL,
    data: Data = DEFAULT_DATA,
    out: Out = None,
    limit: Limit = None,
    batch_size: BatchSize = 8,
    per_head: Annotated[
        bool, typer.Option("--per-head", help="Keep every head's row beside their mean.")
    ] = False,
    importance: Importance = "attention",
    queries: Annotated[
        str,
        typer.Option(
            help="Whose rows are kept beside the last prompt token's: text (the prompt's words "
            "after the picture) or generated (the answer's); last for no others."
        ),
    ] = "last",
    dry_run: DryRun = False,
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
    """Record which visual tokens each layer attends to; a run that was stopped continues."""
    from tokenlens.samples.dataset import load_samples
    from tokenlens.storage.output_paths import profile_directory

    name = model or DEFAULT_MODEL
    check_importance(importance)
    loading = ModelOptions(name, revision, device, dtype, device_map, quantize, adapter)
    loading.check()
    samples = load_samples(data or DEFAULT_DATA, split="calibration", limit=limit)
    directory = out or profile_directory(loading.label, samples.name, importance, queries)

    with importing():
        from tokenlens.probing.profiling import estimate_profile, profile_samples

    kept: dict[str, Any] = {"per_head": per_head, "importance": importance, "queries": queries}
    vlm, spread = load_spread(workers, ray, worker_gpus, worker_cpus, loading)
    results(model=name, data=samples.source, samples=len(samples), split=samples.split, **kept)
    if dry_run:
        estimate = estimate_profile(vlm, samples, directory, **kept)
        results(dry_run=estimate, directory=directory)
        console.print(
            f"{estimate.samples} samples, {estimate.done} of them done, about "
            f"{estimate.size_bytes / 2**20:.1f} MiB in {directory}"
        )
        return
    results(directory=directory)
    kept |= {"batch_size": batch_size, "workers": spread}
    made = profile_samples(vlm, samples, directory, show_progress=True, **kept)
    wrote(f"Profile of {loading.label} on {len(made)} samples of {samples.name}", directory)
    next_command("select-layers", out)
