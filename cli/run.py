"""`tokenlens run`: the unpruned and the pruned model side by side."""

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenlens.errors import OptionError

from .comparison_tables import print_tables
from .console import Table, announce, cautions, console, next_command, percent, wrote
from .dry_run import DryRun, print_estimate
from .importing import importing
from .options import (
    DEFAULT_DATA,
    DEFAULT_MODEL,
    MOST,
    Adapter,
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
    Track,
)
from .output import results
from .workers import RayAddress, WorkerCount, WorkerCpus, WorkerGpus, load_spread

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

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
        typer.Option(
            help="Schedule file, or hub:USER/NAME[@REVISION]; default out.json, as select-layers "
            "writes it."
        ),
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
            max=MOST,
            help="Samples per forward pass; default 8, with --compare 32 for models below 1 B "
            "parameters. Answers do not depend on it.",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, max=MOST, help="Tokens after which an answer is cut off.")
    ] = 32,
    any_model: Annotated[
        bool,
        typer.Option("--any-model", help="Run a schedule made for a model of another id."),
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(
            help="Methods at equal cost instead of one schedule: names (see `tokenlens methods`) "
            "and schedule files (or hub:USER/NAME) with commas between them, or all.",
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
    quantize: Quantize = None,
    adapter: Adapter = None,
    workers: WorkerCount = None,
    ray: RayAddress = None,
    worker_gpus: WorkerGpus = 0,
    worker_cpus: WorkerCpus = 1,
    track: Track = None,
    dry_run: DryRun = False,
) -> None:
    """Answer the same samples unpruned and pruned, by one schedule or by many methods.

    Model and data are the schedule's unless named; of a data set with splits,
    the held-out one.

    Answers are stored under ./tokenlens-out/MODEL/answers: a run that was stopped
    continues, and a run with another limit, method, budget or folder generates only
    missing answers.
    """
    from tokenlens.evaluation.comparing.arm_names import budgets_of, sorted_names
    from tokenlens.evaluation.comparing.origins import made_for
    from tokenlens.probing.profile import Profile
    from tokenlens.samples.dataset import load_samples
    from tokenlens.schedule import Schedule
    from tokenlens.storage.output_paths import (
        SCHEDULE,
        answers_directory,
        comparison_directory,
        results_directory,
    )
    from tokenlens.storage.trackers import find_tracker

    _check_options(compare, schedule, budget, profile)
    tracker = find_tracker(track) if track else None
    file = schedule or SCHEDULE
    one = Schedule.load(file) if compare is None else None
    names, budgets = (compare or "").split(","), budgets_of(budget or _BUDGETS)
    files = sorted_names(names)[1] if compare is not None else ()
    given = {file: one} if one else {path: Schedule.load(path) for path in files}
    if profile is not None:
        Profile(profile)
    own = made_for(given, model=model, data=data)
    name, source = own.model or DEFAULT_MODEL, own.data or DEFAULT_DATA
    commit = revision or own.revision
    loading = ModelOptions(name, commit, device, dtype, device_map, quantize, adapter)
    loading.check()
    samples = load_samples(source, "held-out", limit, task or ())

    with importing():
        from tokenlens.evaluation.comparing.arms import (
            Arms,
            comparison_arms,
            information_for,
            profile_for,
        )
        from tokenlens.evaluation.comparing.citations import write_references
        from tokenlens.evaluation.comparing.compare import compare as run_arms
        from tokenlens.evaluation.comparing.estimate import estimate_comparison
        from tokenlens.evaluation.comparing.table_files import write_tables
        from tokenlens.evaluation.comparing.tables import budget_tables
        from tokenlens.evaluation.comparing.tracking import track_comparison
        from tokenlens.evaluation.running.options import RunOptions
        from tokenlens.evaluation.running.run import many_at_once

    vlm, spread = load_spread(workers, ray, worker_gpus, worker_cpus, loading)
    if one:
        arms, wanted = Arms({one.method: one}), results_directory(loading.label, file)
    else:
        arms = comparison_arms(
            vlm,
            names,
            budgets,
            samples,
            profile=profile_for(vlm, profile),
            information=information_for(vlm),
            any_model=any_model,
        )
        wanted = comparison_directory(loading.label, samples.name, len(samples))
    options = RunOptions(
        batch_size=batch_size or (_FEW if one else many_at_once(vlm)),
        max_new_tokens=max_new_tokens,
        any_model=any_model,
        workers=spread,
    )
    place: dict[str, Any] = {
        "out": out or wanted,
        "beside": out is None,
        "answers": answers_directory(loading.label),
    }
    results(model=name, data=source, samples=len(samples), split=samples.split)
    if dry_run:
        taken, target = estimate_comparison(vlm, samples, arms.schedules, options=options, **place)
        results(arms=arms.schedules, left_out=arms.left_out)
        print_estimate(taken, f"Runs of {loading.label}", samples.name, target)
        return
    announce(f"Running {loading.label} on {len(samples)} samples of {samples.name} ({source})")
    comparison = run_arms(
        vlm,
        samples,
        arms.schedules,
        batch_size=options.batch_size,
        max_new_tokens=max_new_tokens,
        any_model=any_model,
        show_progress=True,
        plan=arms.plan,
        workers=spread,
        **place,
    )
    tables = budget_tables(comparison)
    directory = comparison.directory or wanted
    files = write_tables(directory, tables)
    references = write_references(directory, comparison)
    results(
        table=comparison.table(),
        figures=comparison.figures(),
        tokens_per_layer=comparison.tokens_per_layer(),
        budgets=tables,
    )
    console.print(f"{loading.label} on {len(samples)} samples of {samples.name}")
    if one:
        _print(comparison)
    else:
        print_tables(tables)
        wrote("Tables", *files)
    cautions(comparison.cautions)
    wrote("To cite", references)
    wrote("Results", directory)
    if tracker is not None:
        track_comparison(comparison, tracker)
        console.print(f"Recorded by {track}.")
    next_command("report", out)


def _check_options(
    compare: str | None, schedule: Path | None, budget: str | None, profile: Path | None
) -> None:
    """Raise `OptionError` for options of a single run together with options of a comparison."""
    if compare is None and (budget is not None or profile is not None):
        raise OptionError("--budget and --profile go with --compare; add it, or leave them out")
    if compare is not None and schedule is not None:
        raise OptionError("--schedule does not go with --compare; name its file in --compare")


def _print(comparison: "Comparison") -> None:
    from tokenlens.evaluation.metrics.agreement import scoring_note

    table = comparison.table()
    whole = next(iter(comparison.arms.values())).outcomes
    shown = _shown_columns(whole)
    scores = Table(
        title="Scores, and what is retained of the unpruned model's"
        if "score" in shown
        else "Agreement with the unpruned model's answers"
    )
    for column in ("task", "method", "samples", *shown):
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
    for row in table.to_dict("records"):
        cells = [cell(row) for cell in shown.values()]
        scores.add_row(row["task"], row["arm"], str(row["samples"]), *cells)
        if row["task"] == "all":
            costs.add_row(
                row["arm"],
                f"{row['tokens']:.1f}",
                f"{row['macs'] / 1e9:.3f}",
                f"{row['kv_bytes'] / 1024:.1f}",
                *(_milliseconds(row[name]) for name in ("prefill_s", "decode_s")),
            )
    console.print(scores)
    note = scoring_note(whole)
    if note:
        console.print(f"{note}.")
    _print_figures(comparison)
    console.print(costs)
    dtype = next(iter(comparison.arms.values())).identity["model"]["dtype"]
    console.print(f"Every sample's own prompt is counted; the cache is {dtype}, as the model ran.")
    for arm, rows in comparison.tokens_per_layer().groupby("arm", sort=False):
        tokens = " ".join(f"{value:.0f}" for value in rows["tokens"])
        console.print(f"Visual tokens entering layers 1, 2, …, {arm}: {tokens}")


def _milliseconds(seconds: float) -> str:
    """A time, or a dash where none was taken, as by workers."""
    return "-" if isnan(seconds) else f"{1e3 * seconds:.1f}"


def _shown_columns(rows: "pd.DataFrame") -> "dict[str, Callable[[dict[str, Any]], str]]":
    """The columns of the scores' table: agreement where samples have no ground truth."""

    def interval(name: str) -> "Callable[[dict[str, Any]], str]":
        return lambda row: f"{percent(row[f'{name}_low'])} … {percent(row[f'{name}_high'])}"

    shown: dict[str, Callable[[dict[str, Any]], str]] = {}
    unscored = rows["score"].isna()
    if not unscored.all():
        shown["score"] = lambda row: percent(row["score"])
        shown["retained"] = lambda row: percent(row["retained"])
        shown["95 % interval"] = interval("retained")
    if unscored.any():
        shown["agreement"] = lambda row: percent(row["agreement"])
        shown["its interval" if "score" in shown else "95 % interval"] = interval("agreement")
    return shown


def _print_figures(comparison: "Comparison") -> None:
    """Print the benchmark's own figures, where it has more than a mean score."""
    reported = comparison.reported()
    if not reported:
        return
    table = Table("task", "figure", title="What the benchmark reports")
    for arm in comparison.arms:
        table.add_column(arm, justify="right")
    for task, figure, values in reported:
        table.add_row(task, figure, *values)
    console.print(table)
