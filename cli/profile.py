"""`tokenlens profile`: record every layer's attention from text to visual tokens."""

from typing import Annotated

import typer

from .console import console, next_command, wrote
from .options import (
    DEFAULT_DATA,
    DEFAULT_MODEL,
    BatchSize,
    Data,
    Device,
    DeviceMap,
    Dtype,
    Limit,
    Model,
    Out,
    Revision,
    check_model,
    load_model,
)


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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done and how large it gets.")
    ] = False,
    revision: Revision = None,
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
) -> None:
    """Record which visual tokens each layer attends to; a run that was stopped continues."""
    from tokenlens.samples.dataset import load_samples
    from tokenlens.storage.output_paths import profile_directory

    name = model or DEFAULT_MODEL
    check_model(name, revision, device, dtype, device_map)
    samples = load_samples(data or DEFAULT_DATA, split="calibration", limit=limit)
    directory = out or profile_directory(name, samples.name)

    from tokenlens.probing.profiling import estimate_profile, profile_samples

    vlm = load_model(name, revision, device, dtype, device_map)
    if dry_run:
        estimate = estimate_profile(vlm, samples, directory, per_head=per_head)
        console.print(
            f"{estimate.samples} samples, {estimate.done} of them done, about "
            f"{estimate.size_bytes / 2**20:.1f} MiB in {directory}"
        )
        return
    profile_samples(
        vlm, samples, directory, batch_size=batch_size, per_head=per_head, show_progress=True
    )
    wrote(f"Profile of {name} on {len(samples)} samples of {samples.name}", directory)
    next_command("select-layers", out)
