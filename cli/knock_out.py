"""`tokenlens knock-out`: up to which layer a model reads its picture."""

from typing import Annotated

import typer

from .console import console, lines, percent, wrote
from .options import (
    DEFAULT_DATA,
    DEFAULT_MODEL,
    MOST,
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
    check_model(name, revision, device, dtype, device_map)
    samples = load_samples(data or DEFAULT_DATA, "held-out", limit, task or ())

    from tokenlens.analyses import knock_out as analysis
    from tokenlens.analyses import shallow_deep_overlap, target_recall
    from tokenlens.evaluation.comparing.comparison import UNPRUNED
    from tokenlens.evaluation.metrics.agreement import reference_note
    from tokenlens.evaluation.running.results import Results
    from tokenlens.probing.profiling import profile_samples
    from tokenlens.reports.figures import FigureFolder

    vlm = load_model(name, revision, device, dtype, device_map)
    directory = out or knock_out_directory(name, samples.name, len(samples))
    layers = range(2 if every == 1 else 3, vlm.layers + 1, every)
    table = analysis.compute(
        vlm,
        samples,
        directory,
        layers=layers,
        answers=answers_directory(name),
        batch_size=batch_size,
        show_progress=True,
    )
    profile = profile_samples(
        vlm, samples, directory / "profile", batch_size=batch_size, show_progress=True
    )
    FigureFolder(directory).add("knock-out", analysis.plot(table))
    lines(analysis.markdown(table))
    note = reference_note(Results.load(directory / UNPRUNED).outcomes)
    if note:
        console.print()
        console.print(f"{note}.")
    console.print()
    lines(target_recall.markdown(target_recall.compute(profile, samples)))
    shallow, deep, share = shallow_deep_overlap.summary(shallow_deep_overlap.compute(profile))
    console.print()
    console.print(
        f"Of the top 10 % of layers {deep[0]} to {deep[-1]}, {percent(share)} stand in the "
        f"bottom half of layers {shallow[0]} to {shallow[-1]}."
    )
    wrote("Rows and figure", directory)
