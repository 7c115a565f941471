"""`tokenlens run`: the unpruned and the pruned model side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .console import console, next_command, percent, wrote
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
    load_model,
)

if TYPE_CHECKING:
    from tokenlens.evaluation.comparison import Comparison


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("run", epilog="Example: tokenlens run --schedule out.json --limit 100")(run)


def run(
    schedule: Annotated[
        Path | None,
        typer.Option(help="Schedule file; default out.json, as select-layers writes it."),
    ] = None,
    model: Model = None,
    data: Data = None,
    out: Out = None,
    limit: Limit = None,
    batch_size: BatchSize = 8,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens after which an answer is cut off.")
    ] = 32,
    any_model: Annotated[
        bool,
        typer.Option("--any-model", help="Run a schedule made for a model of another id."),
    ] = False,
    revision: Revision = None,
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
) -> None:
    """Answer the same samples unpruned and pruned; a run that was stopped continues.

    Model and data are the schedule's unless named; of a data set with splits, the held-out one.
    """
    from tokenlens.evaluation.comparison import compare
    from tokenlens.samples.dataset import load_samples
    from tokenlens.schedule import Schedule
    from tokenlens.workspace import SCHEDULE, results_directory

    file = schedule or SCHEDULE
    pruned = Schedule.load(file)
    name = model or pruned.model.id or DEFAULT_MODEL
    source = data or (pruned.why and pruned.why.data) or DEFAULT_DATA
    samples = load_samples(source, split="held-out", limit=limit)
    directory = out or results_directory(name, file)
    commit = revision or (pruned.model.revision if model is None else None)
    vlm = load_model(name, commit, device, dtype, device_map)
    comparison = compare(
        vlm,
        samples,
        {pruned.method: pruned},
        directory,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        any_model=any_model,
        show_progress=True,
    )
    console.print(f"{name} on {len(samples)} samples of {samples.name}")
    _print(comparison)
    wrote("Results", directory)
    next_command("tokenlens report" if out is None else f"tokenlens report {out}")


def _print(comparison: "Comparison") -> None:
    scores = Table(title="Scores, and what is retained of the unpruned model's")
    for column in ("task", "method", "samples", "score", "retained", "95 % interval"):
        scores.add_column(column, justify="left" if column in ("task", "method") else "right")
    costs = Table(title="Costs per sample, means")
    columns = (
        "method",
        "visual tokens per layer",
        "prefill GMACs",
        "KV cache KiB",
        "prefill ms",
        "decode ms",
    )
    for column in columns:
        costs.add_column(column, justify="left" if column == "method" else "right")
    for row in comparison.table().to_dict("records"):
        scores.add_row(
            row["task"],
            row["arm"],
            str(row["samples"]),
            percent(row["score"]),
            percent(row["retained"]),
            f"{percent(row['retained_low'])} … {percent(row['retained_high'])}",
        )
        if row["task"] == "all":
            costs.add_row(
                row["arm"],
                f"{row['tokens']:.1f}",
                f"{row['macs'] / 1e9:.3f}",
                f"{row['kv_bytes'] / 1024:.1f}",
                f"{1e3 * row['prefill_s']:.1f}",
                f"{1e3 * row['decode_s']:.1f}",
            )
    console.print(scores)
    _print_figures(comparison)
    console.print(costs)
    for arm, rows in comparison.tokens_per_layer().groupby("arm", sort=False):
        tokens = " ".join(f"{value:.0f}" for value in rows["tokens"])
        console.print(f"Visual tokens entering layers 1, 2, …, {arm}: {tokens}")


def _print_figures(comparison: "Comparison") -> None:
    """What the benchmark itself reports, where it has more than a mean score."""
    reported = comparison.reported()
    if not reported:
        return
    table = Table("task", "figure", title="What the benchmark reports")
    for arm in comparison.arms:
        table.add_column(arm, justify="right")
    for task, figure, values in reported:
        table.add_row(task, figure, *values)
    console.print(table)
