"""`tokenlens run`: the unpruned and the pruned model side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .comparison_tables import print_tables
from .console import console, next_command, percent, wrote
from .options import (
    DEFAULT_DATA,
    DEFAULT_MODEL,
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
    from tokenlens.evaluation.comparing.comparison import Comparison

_FIELD = "Many methods"
_BUDGETS = "33%,22%"
_FEW = 8
"""Samples per batch where one schedule runs."""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(
        "run",
        epilog="Example: tokenlens run --schedule out.json --limit 100\n\n"
        "Example: tokenlens run --compare fastv,pdrop,swiftvlm --budget 33%,22%",
    )(run)


def run(
    schedule: Annotated[
        Path | None,
        typer.Option(help="Schedule file; default out.json, as select-layers writes it."),
    ] = None,
    model: Model = None,
    data: Data = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Only samples of this task; may be repeated. Default: all."),
    ] = None,
    out: Out = None,
    limit: Limit = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Samples per forward pass; default 8, with --compare 32 for models below 1 B "
            "parameters. Answers do not depend on it.",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens after which an answer is cut off.")
    ] = 32,
    any_model: Annotated[
        bool,
        typer.Option("--any-model", help="Run a schedule made for a model of another id."),
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(
            help="Methods at equal cost instead of one schedule: names (see `tokenlens methods`) "
            "and schedule files with commas between them, or all.",
            rich_help_panel=_FIELD,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Budgets to compare at, commas between: visual tokens entering a layer, mean over "
            f"layers, such as 33% or '48 tokens', or MACs: '50% MACs'. Default {_BUDGETS}.",
            rich_help_panel=_FIELD,
        ),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            help="Profile that chooses the layers of swiftvlm and drop; default: the newest of "
            "this model under ./tokenlens-out, else the published layers at the same depth.",
            rich_help_panel=_FIELD,
        ),
    ] = None,
    revision: Revision = None,
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
) -> None:
    """Answer the same samples unpruned and pruned, by one schedule or by many methods.

    Model and data are the schedule's unless named; of a data set with splits,
    the held-out one.

    Answers are kept under ./tokenlens-out/MODEL/answers: a run that was stopped
    continues, and with another limit, method, budget or folder only what is
    missing is answered.
    """
    from tokenlens.evaluation.comparing.arms import Arms, budgets_of, comparison_arms, profile_for
    from tokenlens.evaluation.comparing.comparison import compare as run_arms
    from tokenlens.evaluation.comparing.comparison import free_directory
    from tokenlens.evaluation.comparing.table_files import write_tables
    from tokenlens.evaluation.comparing.tables import budget_tables
    from tokenlens.evaluation.running.run import many_at_once
    from tokenlens.samples.dataset import load_samples
    from tokenlens.schedule import Schedule
    from tokenlens.storage.output_paths import (
        SCHEDULE,
        answers_directory,
        comparison_directory,
        results_directory,
    )

    _check_options(compare, schedule, budget, profile)
    file = schedule or SCHEDULE
    one = Schedule.load(file) if compare is None else None
    name = model or (one and one.model.id) or DEFAULT_MODEL
    source = data or (one and one.why and one.why.data) or DEFAULT_DATA
    samples = load_samples(source, "held-out", limit, task or ())
    commit = revision or (one.model.revision if one and model is None else None)
    vlm = load_model(name, commit, device, dtype, device_map)
    if one:
        arms, wanted = Arms({one.method: one}), results_directory(name, file)
    else:
        arms = comparison_arms(
            vlm,
            (compare or "").split(","),
            budgets_of(budget or _BUDGETS),
            samples,
            profile=profile_for(vlm, profile),
            any_model=any_model,
        )
        wanted = comparison_directory(name, samples.name, len(samples))
    comparison = run_arms(
        vlm,
        samples,
        arms.schedules,
        directory := out
        or free_directory(wanted, vlm, samples, arms.schedules, max_new_tokens=max_new_tokens),
        batch_size=batch_size or (_FEW if one else many_at_once(vlm)),
        max_new_tokens=max_new_tokens,
        any_model=any_model,
        show_progress=True,
        answers=answers_directory(name),
        plan=arms.plan,
    )
    tables = budget_tables(comparison)
    files = write_tables(directory, tables)
    console.print(f"{name} on {len(samples)} samples of {samples.name}")
    if one:
        _print(comparison)
    else:
        print_tables(tables)
        wrote("Tables", ", ".join(str(file) for file in files))
    wrote("Results", directory)
    next_command("tokenlens report" if out is None else f"tokenlens report {out}")


def _check_options(
    compare: str | None, schedule: Path | None, budget: str | None, profile: Path | None
) -> None:
    """Options of the one way to run do not go with those of the other."""
    if compare is None and (budget is not None or profile is not None):
        raise typer.BadParameter("--budget and --profile go with --compare; add it")
    if compare is not None and schedule is not None:
        raise typer.BadParameter("name schedule files in --compare instead of --schedule")


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
