"""Run of the unpruned model and of pruned ones on the same samples, into one directory."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tokenlens.errors import OutputError, ResultsError, SampleError
from tokenlens.evaluation.comparing.cautions import (
    choice_cautions,
    length_cautions,
    score_cautions,
)
from tokenlens.evaluation.comparing.comparison import KIND, SCHEMA, UNPRUNED, Comparison
from tokenlens.evaluation.comparing.summary import Plan
from tokenlens.evaluation.comparing.timed_arms import BATCH_SIZE, time_arms, timed_rows
from tokenlens.evaluation.comparing.timing import Timing
from tokenlens.evaluation.running.answer_cache import answers_within
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.evaluation.running.results import KIND as RESULTS
from tokenlens.evaluation.running.run import Keep, Run
from tokenlens.models.vlm import VLM
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule
from tokenlens.storage.files import hash_json
from tokenlens.storage.invocation import current_command
from tokenlens.storage.locking import DirectoryLock
from tokenlens.storage.output_paths import kind_of, slug
from tokenlens.storage.seals import write_sealed
from tokenlens.storage.shards import MANIFEST, existing_run
from tokenlens.storage.versions import versions
from tokenlens.wording import cautions
from tokenlens.workers import Workers


def compare(
    vlm: VLM,
    samples: Sequence[Sample],
    schedules: Mapping[str, Schedule | None],
    out: Path | str,
    *,
    batch_size: int = 8,
    max_new_tokens: int = 32,
    any_model: bool = False,
    show_progress: bool = False,
    answers: Path | str | None = None,
    timed: bool = True,
    plan: Plan | None = None,
    beside: bool = False,
    workers: Workers | None = None,
) -> Comparison:
    """Answer all samples with the unpruned model and by every schedule, and compare.

    Every arm has its own directory of rows under `out`, and `summary.json` holds the table. An
    interrupted run continues where it stopped. Where an arm is added later, only that arm is run.

    Args:
        vlm: a model with its processor.
        samples: at least one.
        schedules: schedules by the name of their arm; `unpruned`, the arm without one, always runs.
        out: directory for the rows, made where missing.
        batch_size: samples per batch; it does not change the answers.
        max_new_tokens: tokens after which an answer is cut off; a box of Qwen2-VL takes about 20.
        any_model: run schedules that were made for a model of another id.
        show_progress: show a bar with an ETA on standard error.
        answers: directory in which answers are kept for every later run of the same model, whatever
            its samples and its `out`; None keeps them in `out`, until it has finished.
        timed: measure what the arms take, side by side, on a few batches (see `time_arms`). A
            directory that knows the times of all arms measures none again.
        plan: what is compared with what, for the tables.
        beside: where `out` holds another comparison, use a directory beside it, which the same
            comparison always gets; the comparison says which (`Comparison.directory`).
        workers: processes that answer in place of this one, with the same results; nothing is timed
            then, since workers share a machine.

    Raises:
        ScheduleError: a schedule is for another model.
        SampleError: no samples, or a picture that cannot be used; answers before it are kept.
        OutputError: `out` holds something else, or cannot be written to.
    """
    out = Path(out)
    arms: dict[str, Schedule | None] = {UNPRUNED: None, **schedules}
    _check_names(arms)
    options = RunOptions(
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        any_model=any_model,
        show_progress=show_progress,
        workers=workers,
    )
    run = Run(vlm, samples, options)
    run.check(arms.values())
    if timed and batch_size >= BATCH_SIZE:
        run = replace(run, apart=timed_rows(samples))
    if beside:
        out = free_directory(out, run, arms)
    _claim(out)
    command = current_command()
    with DirectoryLock(out):
        directories = {out / slug(name): schedule for name, schedule in arms.items()}
        known = Timing.load(out)
        missing = timed and workers is None and not (known and known.covers(arms))
        watch = partial(_time, run, arms, directories, out)
        with answers_within(out) if answers is None else nullcontext(Path(answers)) as place:
            results = run.into(directories, place, watch if missing and run.apart else None)
        timing = Timing.load(out)
        if missing and not (timing and timing.covers(arms)):
            timing = time_arms(vlm, samples, arms, options)
            timing.save(out)
        comparison = Comparison(
            dict(zip(arms, results, strict=True)), timing, plan, command=command, directory=out
        )
        said = _cautions(comparison, samples, schedules.values())
        comparison = replace(comparison, cautions=said)
        comparison.save(out)
        write_sealed(out / MANIFEST, _manifest())
    return comparison


def _time(
    run: Run,
    arms: Mapping[str, Schedule | None],
    directories: Iterable[Path],
    out: Path,
    keep: Keep,
) -> None:
    """Time the arms on batches that `run` answers as they are, and keep those answers.

    A sample that cannot be used is left to the run, which comes to it after the others.
    """
    places = dict(zip(arms, directories, strict=True))
    with suppress(SampleError):
        time_arms(
            run.vlm,
            run.samples,
            arms,
            run.options,
            lambda arm, batch, answers: keep(places[arm], batch, answers),
        ).save(out)


def free_directory(wanted: Path, run: Run, arms: Mapping[str, Schedule | None]) -> Path:
    """`wanted`, or where that holds another comparison, a directory next to it for this one.

    The same comparison always gets the same directory.
    """
    identities = {name: run.identity(schedule) for name, schedule in arms.items()}
    try:
        for name, identity in identities.items():
            existing_run(wanted / slug(name), RESULTS, identity)
    except OutputError:
        return wanted.with_name(f"{wanted.name}-{hash_json(identities)[:8]}")
    return wanted


def _cautions(
    comparison: Comparison, samples: Sequence[Sample], schedules: Iterable[Schedule | None]
) -> tuple[str, ...]:
    rows = next(iter(comparison.arms.values())).outcomes
    images = map(cautions.pictures_named, rows["image"], rows["more_images"])
    source, split = (getattr(samples, name, None) for name in ("source", "split"))
    pictured = rows[~rows["text_only"]]
    told = list(schedules)
    return (
        *cautions.on_text_only(sum(sample.text_only for sample in samples), len(samples)),
        *score_cautions(comparison.table(), images),
        *choice_cautions(told, source, split),
        *length_cautions(told, float(pictured["tokens"].mean()) if len(pictured) else 0.0),
    )


def _check_names(arms: Mapping[str, Any]) -> None:
    """Raise an error for arms that would share a directory, and for a schedule named `unpruned`."""
    slugs = [slug(name) for name in arms]
    clash = next((name for name in arms if slugs.count(slug(name)) > 1), None)
    if clash is not None or arms[UNPRUNED] is not None:
        raise OutputError(
            f"the arm {clash or UNPRUNED!r} would be written where another is; give it another name"
        )


def _claim(out: Path) -> None:
    """Mark `out` as a comparison's directory, or check that it is one, even without a manifest."""
    try:
        if kind_of(out) == KIND:
            return
        orphaned = kind_of(out) is None and kind_of(out / slug(UNPRUNED)) == RESULTS
    except ResultsError as error:
        raise OutputError(str(error)) from error
    foreign = not out.is_dir() or any(out.glob("[!.]*"))
    if out.exists() and foreign and not orphaned:
        raise OutputError(f"{out} exists and holds no results; choose another directory with --out")
    write_sealed(out / MANIFEST, _manifest())


def _manifest() -> dict[str, Any]:
    return {"schema": SCHEMA, "kind": KIND, "versions": versions()}
