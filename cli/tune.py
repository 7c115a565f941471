"""`tokenlens tune`: the best schedule within a budget, or the cheapest that is good enough."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import (
    Table,
    announce,
    cautions,
    console,
    duration,
    next_command,
    percent,
    wrote,
)
from .dry_run import DryRun
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
    Quantize,
    Revision,
    Track,
)
from .output import results
from .workers import RayAddress, WorkerCount, WorkerCpus, WorkerGpus, load_spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenlens.models.vlm import VLM
    from tokenlens.samples.dataset import Samples
    from tokenlens.samples.sample import Sample
    from tokenlens.tuning.goal import Goal
    from tokenlens.tuning.trials import Trial
    from tokenlens.tuning.tuning import Tuning

_GOAL = "What is to be found (exactly one)"

Budget = Annotated[
    str | None,
    typer.Option(
        help="The best schedule within it: '33% MACs', '400 GMACs', 33% or '48 tokens'.",
        rich_help_panel=_GOAL,
    ),
]
MinRetained = Annotated[
    str | None,
    typer.Option(
        help="The cheapest schedule whose retained score is this share of the unpruned "
        "model's, by the low end of its 95 % interval, such as 98%.",
        rich_help_panel=_GOAL,
    ),
]
MinAgreement = Annotated[
    str | None,
    typer.Option(
        help="Likewise, the share of answers equal to the unpruned model's; needs no labels.",
        rich_help_panel=_GOAL,
    ),
]
Objective = Annotated[
    str, typer.Option(help="The cost to reduce: macs, prefill-time or kv (bytes of the cache).")
]
Labels = Annotated[
    bool,
    typer.Option(
        help="Score answers where there are right ones; else only by agreement with the "
        "unpruned model's own."
    ),
]
Trials = Annotated[
    int,
    typer.Option(
        min=0, max=MOST, help="Number of schedules proposed, besides the starting points."
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(min=0.0, help="Seconds after which no new trial begins."),
]
Seed = Annotated[int, typer.Option(min=0, max=2**31, help="Seed of the proposals.")]
Tasks = Annotated[
    list[str] | None,
    typer.Option(help="Only samples of this task; may be repeated. Default: all."),
]
HeldOut = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=MOST,
        help="Greatest number of samples of the held-out split; 0 for none. Default: all.",
    ),
]
ProfileFolder = Annotated[
    Path | None,
    typer.Option(
        help="Profile whose schedule is tried too; default: the newest of this model under "
        "./tokenlens-out, if any."
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(help="Folder of the search; several processes may work on one."),
]
Batch = Annotated[int | None, typer.Option(min=1, max=MOST, help="Samples per forward pass.")]
MaxNewTokens = Annotated[
    int, typer.Option(min=1, max=MOST, help="Tokens after which an answer is cut off.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(
        "tune",
        epilog="Example: tokenlens tune --budget '33% MACs' --trials 100\n\n"
        "Example: tokenlens tune --min-retained 98% --objective kv --timeout 900",
    )(tune)


def tune(
    budget: Budget = None,
    min_retained: MinRetained = None,
    min_agreement: MinAgreement = None,
    objective: Objective = "macs",
    labels: Labels = True,
    trials: Trials = 100,
    timeout: Timeout = None,
    seed: Seed = 0,
    model: Model = None,
    data: Data = None,
    task: Tasks = None,
    limit: Limit = None,
    held_out: HeldOut = None,
    profile: ProfileFolder = None,
    out: Folder = None,
    batch_size: Batch = None,
    max_new_tokens: MaxNewTokens = 32,
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
    """Search for a schedule: layers, keeps, disposals, merging and scorers of up to three stages.

    Schedules are evaluated on the calibration samples alone. The search begins with every
    preset, so that its result on them is never worse. Scores of the front on the held-out
    split are reported at the end. A search that was stopped continues, also with more
    --trials.
    """
    from tokenlens.storage.output_paths import answers_directory, tune_directory
    from tokenlens.storage.trackers import find_tracker
    from tokenlens.tuning.goal import Goal

    how: dict[str, Any] = {"min_retained": min_retained, "min_agreement": min_agreement}
    how |= {"objective": objective, "labels": labels}
    goal = Goal.of(budget, **how)
    _check_search(trials, timeout, profile)
    told = {"tracker": find_tracker(track) if track else None}
    name, source = model or DEFAULT_MODEL, data or DEFAULT_DATA
    loading = ModelOptions(name, revision, device, dtype, device_map, quantize, adapter)
    loading.check()
    samples, unseen = _samples(source, limit, held_out, task or ())

    with importing():
        from tokenlens.tuning.tune import tune as search
    vlm, spread = load_spread(workers, ray, worker_gpus, worker_cpus, loading)
    directory = out or tune_directory(loading.label, samples.name, len(samples), goal.folder)
    results(model=name, data=source, goal=goal.as_json(), samples=len(samples), seed=seed)
    extent: dict[str, Any] = {"trials": trials, "timeout": timeout, "batch_size": batch_size}
    extent |= {"max_new_tokens": max_new_tokens, **_known(vlm, profile)}
    if dry_run:
        _print_estimate(vlm, samples, goal, directory, extent)
        return
    announce(f"Tuning {loading.label} on {len(samples)} samples of {samples.name}: {goal.words}")
    extent |= {"seed": seed, "held_out": unseen, "out": directory, "workers": spread, **told}
    answers = answers_directory(loading.label)
    found = search(vlm, samples, budget, answers=answers, show_progress=True, **how, **extent)
    _report(found, directory)


def _known(vlm: "VLM", profile: Path | None) -> dict[str, Any]:
    """What is known of the model: a profile, the one named first, and an information profile."""
    from tokenlens.evaluation.comparing.arms import information_for, profile_for

    return {"profile": profile_for(vlm, profile), "information": information_for(vlm)}


def _samples(
    source: str, limit: int | None, held_out: int | None, tasks: "Sequence[str]"
) -> "tuple[Samples, Sequence[Sample]]":
    """The samples that schedules are evaluated on, and the held-out ones, if any."""
    from tokenlens.samples.dataset import load_samples

    samples = load_samples(source, "calibration", limit, tasks)
    if held_out == 0:
        return samples, ()
    others = load_samples(source, "held-out", held_out, tasks)
    return samples, others if others.split != samples.split else ()


def _check_search(trials: int, timeout: float | None, folder: Path | None) -> None:
    """Refuse what cannot be searched, and a folder without a profile, before a model is loaded."""
    from tokenlens.probing.profile import Profile
    from tokenlens.tuning.goal import check_extent, require_optuna

    require_optuna()
    check_extent(trials, timeout)
    if folder is not None:
        Profile(folder)


def _print_estimate(
    vlm: "VLM", samples: "Samples", goal: "Goal", directory: Path, extent: dict[str, Any]
) -> None:
    """Print the estimated cost of a search, and where it would write."""
    from tokenlens.tuning.estimate import estimate_tuning

    taken = estimate_tuning(vlm, samples, goal, **extent)
    results(dry_run=taken, directory=directory)
    console.print(
        f"Tuning: {taken.starts} starting points and {taken.trials} proposals on {taken.samples} "
        f"samples of {samples.name}. By the first {taken.measured} samples it takes at most about "
        f"{duration(taken.seconds)}, answers on held-out samples not counted."
    )
    console.print(f"It would write to {directory}; nothing is written.")


def _report(found: "Tuning", directory: Path) -> None:
    """Print what was found, and draw it beside its files."""
    from tokenlens.analyses import tuning_front
    from tokenlens.reports.figures import FigureFolder
    from tokenlens.tuning.goal import OBJECTIVES
    from tokenlens.tuning.tune import require_met
    from tokenlens.tuning.tuning import FRONT, SCHEDULE, TABLE, counts, describe

    cost = OBJECTIVES[found.goal.objective]
    frame = tuning_front.compute(found)
    FigureFolder(directory).add(
        "front",
        tuning_front.plot(frame, cost=cost, quality=found.goal.quality, least=found.goal.least),
    )
    ended = ", ".join(f"{count} {name}" for name, count in counts(found.trials).items())
    console.print(f"{len(found.trials)} trials: {ended}; finished ones on {found.samples} samples.")
    what = "what is retained" if found.goal.labels else "agreement with the unpruned model"
    table = Table(title=f"The front: {what}, by {cost}", title_justify="left")
    for column in ("", cost, found.goal.quality, "95 % interval", "held-out", "its interval"):
        table.add_column(column, justify="right" if column else "left", no_wrap=not column)
    for trial in found.shown:
        style = "bold green" if trial is found.chosen else None
        table.add_row(*_cells(found, trial), style=style)
    console.print(table)
    for trial in found.shown:
        if trial.schedule is not None:
            console.print(f"{trial.title}: {describe(trial.schedule)}.")
    _print_optimism(found)
    cautions(found.cautions)
    results(**found.as_json(), trials=found.table())
    wrote(
        "Front, trials and figure",
        *(directory / file for file in (FRONT, TABLE, "front.svg")),
        shown=f"{FRONT}, {TABLE}, front.svg in {directory}",
    )
    require_met(found)
    wrote("Schedule", directory / SCHEDULE)
    next_command("run", "--schedule", directory / SCHEDULE)


def _cells(found: "Tuning", trial: "Trial") -> tuple[str, ...]:
    held = found.held_out.get(trial.place)
    mark = "◀ chosen" if trial is found.chosen else ""
    mark = mark or ("best start" if trial is found.best_start else "")
    return (
        f"{trial.title} {mark}".strip(),
        percent(trial.price),
        percent(trial.score),
        f"{percent(trial.low or 0.0)} … {percent(trial.high or 0.0)}",
        percent(held.retained) if held else "-",
        f"{percent(held.low)} … {percent(held.high)}" if held else "-",
    )


def _print_optimism(found: "Tuning") -> None:
    """Print how much higher scores are on the tuning samples than on held-out samples."""
    if not found.held_out_samples or found.nearest is None:
        return
    own, mean = 100 * found.optimism(found.nearest), 100 * found.mean_optimism
    console.print(
        f"Optimism (tuning samples less {found.held_out_samples} held-out ones, which chose "
        f"nothing): {own:+.1f} points for {found.nearest.title}, {mean:+.1f} on the front's mean."
    )
    if found.margin is not None and found.best_start is not None:
        low, high = (f"{100 * end:+.1f}" for end in (found.margin.low, found.margin.high))
        console.print(
            f"There, {found.nearest.title} retains {100 * found.margin.retained:+.1f} points more "
            f"({low} … {high}, paired) than {found.best_start.title}, the best starting point."
        )
