"""The unpruned model and pruned ones side by side on the same samples."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from math import isnan, nan
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tokenlens.errors import OutputError, ResultsError
from tokenlens.evaluation.comparing.cautions import choice_cautions, score_cautions
from tokenlens.evaluation.comparing.statistics import score_statistics
from tokenlens.evaluation.comparing.timing import FILE as TIMING
from tokenlens.evaluation.comparing.timing import Timing, time_arms
from tokenlens.evaluation.metrics.agreement import agreement, agreement_statistics
from tokenlens.evaluation.metrics.set_metrics import Figure, set_figures
from tokenlens.evaluation.running.answer_cache import answers_within
from tokenlens.evaluation.running.results import KIND as RESULTS
from tokenlens.evaluation.running.results import MACRO, Results, task_groups
from tokenlens.evaluation.running.run import Run
from tokenlens.models.vlm import VLM
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule
from tokenlens.storage.files import hash_json
from tokenlens.storage.invocation import current_command
from tokenlens.storage.locking import DirectoryLock
from tokenlens.storage.output_paths import kind_of, slug
from tokenlens.storage.seals import read_sealed, require, write_sealed
from tokenlens.storage.shards import MANIFEST, existing_run
from tokenlens.storage.versions import versions

KIND, SUMMARY = "comparison", "summary.json"
UNPRUNED = "unpruned"
_SCHEMA = 1
_COSTS = ("macs", "scoring_macs", "merging_macs", "kv_bytes")


@dataclass(frozen=True)
class Plan:
    """What is compared with what.

    Attributes:
        budgets: per budget the rows of its table: the method's name and its arm.
        left_out: per budget the methods that could not be run at it, and why.
        layers: per budget a sentence on layers that were chosen for the model.
    """

    budgets: Mapping[str, Mapping[str, str]]
    left_out: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    layers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Arms run on the same samples, each against the unpruned model.

    Attributes:
        arms: results by the arm's name, the unpruned model's first.
        timing: what the arms took, side by side; None where that was not measured.
        plan: what was compared with what; None where the arms were given by name alone.
        cautions: what the samples cannot tell, a sentence each.
        command: the words of the command line that made it; None where a Python program did.
    """

    arms: Mapping[str, Results]
    timing: Timing | None = None
    plan: Plan | None = None
    cautions: tuple[str, ...] = ()
    command: tuple[str, ...] | None = None

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """Read what a finished `compare` wrote; `ResultsError` where there is none."""
        directory = Path(directory)
        if kind_of(directory) != KIND:
            raise ResultsError(
                f"{directory} holds no results; make some with `tokenlens run --out {directory}`"
            )
        summary = read_summary(directory)
        arms = {name: Results.load(directory / slug(name)) for name in summary["arms"]}
        plan, command = summary.get("plan"), summary.get("command")
        timing = Timing.load(directory)
        if timing is None and summary.get("timed"):
            raise ResultsError(
                f"{directory / TIMING} is missing; run the same command again, which times again"
            )
        return cls(
            arms,
            timing,
            Plan(**plan) if plan else None,
            tuple(summary.get("cautions", ())),
            tuple(command) if command else None,
        )

    def table(self) -> pd.DataFrame:
        """Scores, what is retained of the unpruned model's, and costs: one row per task and arm.

        Columns: `task` (each task, then `all` and `macro`), `arm`, `samples`, `unscored` (samples
        without ground truth), `score` and `retained` of those with ground truth and `agreement`
        with the unpruned model's answers of all (`evaluation.agreement`; `macro` is over all
        tasks), each with the ends of its paired bootstrap interval (`_low`, `_high`, 95 %), and
        means per sample: `tokens` (visual tokens entering a
        layer, mean over layers), `macs` (scoring and merging included), `scoring_macs`,
        `merging_macs`, `kv_bytes`, `prefill_s`, `decode_s`. The two times are those of `timing`,
        which has batches of all tasks: they are the same in every task's row, and NaN where nothing
        was timed.
        """
        costs = {arm: self._costs(arm) for arm in self.arms}
        unpruned = next(iter(self.arms.values())).rows
        tasks = [group for _, group in unpruned.groupby("task", sort=False)]
        rows = []
        for task, strata in task_groups(unpruned):
            agreed = agreement_statistics(
                self.agreements(tasks if task == MACRO else strata), len(self.arms)
            )
            for arm, statistics, same in zip(
                self.arms, self._statistics(strata), agreed, strict=True
            ):
                rows.append(
                    {
                        "task": task,
                        "arm": arm,
                        "samples": sum(map(len, strata)),
                        "unscored": sum(int(stratum["score"].isna().sum()) for stratum in strata),
                        **statistics,
                        **same,
                        **_macro_mean([costs[arm].loc[stratum.index] for stratum in strata]),
                    }
                )
        return pd.DataFrame(rows)

    def agreement(self, arm: str) -> pd.Series:
        """Whether an arm's answers are the unpruned model's, 1.0 or 0.0 per sample.

        NaN where the rows do not hold the answers.
        """
        rows, unpruned = self.arms[arm].rows, next(iter(self.arms.values())).rows
        if "prediction" not in rows or "prediction" not in unpruned:
            return pd.Series(nan, index=rows.index)
        return agreement(rows["prediction"], unpruned["prediction"])

    def agreements(self, strata: Sequence[pd.DataFrame]) -> list[NDArray[np.float64]]:
        """Agreement [samples, arms] of all samples of each stratum (rows of the unpruned model)."""
        every = pd.DataFrame({arm: self.agreement(arm) for arm in self.arms})
        return [every.loc[stratum.index].to_numpy() for stratum in strata]

    def scores(self, strata: Sequence[pd.DataFrame]) -> list[NDArray[np.float64]]:
        """Scores [samples, arms] of the samples that have ground truth, for strata that have any.

        Args:
            strata: rows of the unpruned model.
        """
        places = [stratum.index[stratum["score"].notna()] for stratum in strata]
        return [
            np.stack(
                [arm.rows["score"].loc[place].to_numpy() for arm in self.arms.values()], axis=1
            )
            for place in places
            if len(place)
        ]

    def _statistics(self, strata: Sequence[pd.DataFrame]) -> list[dict[str, float]]:
        return score_statistics(self.scores(strata), len(self.arms))

    def _costs(self, arm: str) -> pd.DataFrame:
        """What every sample of an arm cost, and the arm's times in every row."""
        rows = self.arms[arm].rows
        costs = rows[list(_COSTS)].copy()
        costs.insert(0, "tokens", [tokens.mean() for tokens in rows["tokens_per_layer"]])
        timing = self.timing
        for name in ("prefill_s", "decode_s"):
            if timing is not None and arm in timing.arms:
                costs[name] = timing.of(name, [arm]).mean()
            else:  # Before arms were timed apart, rows were answered side by side.
                costs[name] = rows[name].astype(float)
        return costs

    def figures(self) -> pd.DataFrame:
        """What benchmarks report of a whole set of answers, as columns task, figure, arm, value.

        Empty for samples that ask for nothing but their mean score.
        """
        rows = [
            (task, figure, arm, value)
            for arm, results in self.arms.items()
            for task, figure, value in set_figures(results.rows)
        ]
        return pd.DataFrame(rows, columns=["task", "figure", "arm", "value"])

    def reported(self) -> list[tuple[str, str, list[str]]]:
        """`figures` as people write them: task, figure, and its value for every arm in turn."""
        return [
            (task, name, [Figure(task, name, value).text for value in part["value"]])
            for (task, name), part in self.figures().groupby(["task", "figure"], sort=False)
        ]

    def tokens_per_layer(self) -> pd.DataFrame:
        """Visual tokens entering each layer, mean over samples, as columns arm, layer, tokens."""
        return pd.DataFrame(
            {"arm": arm, "layer": layer, "tokens": tokens}
            for arm, results in self.arms.items()
            for layer, tokens in enumerate(results.tokens_per_layer, start=1)
        )


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
) -> Comparison:
    """Answer all samples with the unpruned model and by every schedule, and compare.

    Under `out` every arm has a directory of rows of its own, and `summary.json` holds the table. An
    interrupted run continues where it stopped, and an arm that is added later is all that is run.

    Args:
        vlm: a model with its processor.
        samples: at least one.
        schedules: by the name of their arm; `unpruned` is the arm without one, which always runs.
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

    Raises:
        ScheduleError: a schedule is for another model.
        SampleError: no samples, or a picture that cannot be used; answers before it are kept.
        OutputError: `out` holds something else, or cannot be written to.
    """
    out = Path(out)
    arms: dict[str, Schedule | None] = {UNPRUNED: None, **schedules}
    _check_names(arms)
    run = Run(vlm, samples, batch_size, max_new_tokens, any_model, show_progress, timed=False)
    run.check(arms.values())
    _claim(out)
    command = current_command()
    with DirectoryLock(out):
        directories = {out / slug(name): schedule for name, schedule in arms.items()}
        with answers_within(out) if answers is None else nullcontext(Path(answers)) as place:
            results = run.into(directories, place)
        timing = Timing.load(out)
        if timed and not (timing and timing.covers(arms)):
            timing = time_arms(
                vlm,
                samples,
                arms,
                max_new_tokens=max_new_tokens,
                any_model=any_model,
                show_progress=show_progress,
            )
            timing.save(out)
        comparison = Comparison(
            dict(zip(arms, results, strict=True)), timing, plan, command=command
        )
        cautions = _cautions(comparison, samples, schedules.values())
        comparison = replace(comparison, cautions=cautions)
        write_sealed(out / SUMMARY, _summary(comparison))
        write_sealed(out / MANIFEST, _manifest())
    return comparison


def free_directory(
    wanted: Path,
    vlm: VLM,
    samples: Sequence[Sample],
    schedules: Mapping[str, Schedule | None],
    *,
    max_new_tokens: int = 32,
) -> Path:
    """`wanted`, or where that holds another comparison, a directory beside it for this one alone.

    The same comparison always gets the same directory.
    """
    run = Run(vlm, samples, 1, max_new_tokens, True, False, timed=False)
    arms = {
        name: run.identity(schedule) for name, schedule in {UNPRUNED: None, **schedules}.items()
    }
    try:
        for name, identity in arms.items():
            existing_run(wanted / slug(name), RESULTS, identity)
    except OutputError:
        return wanted.with_name(f"{wanted.name}-{hash_json(arms)[:8]}")
    return wanted


def _cautions(
    comparison: Comparison, samples: Sequence[Sample], schedules: Iterable[Schedule | None]
) -> tuple[str, ...]:
    rows = next(iter(comparison.arms.values())).rows
    source, split = (getattr(samples, name, None) for name in ("source", "split"))
    return (
        *score_cautions(comparison.table(), rows["image"]),
        *choice_cautions(schedules, source, split),
    )


def read_summary(directory: Path) -> dict[str, Any]:
    """The summary of a finished comparison; `ResultsError` where there is none, or a damaged one.

    Its keys `arms`, `versions` and, where there is one, `plan` are what they should be.
    """
    path = directory / SUMMARY
    if not path.exists():
        raise ResultsError(
            f"{directory} holds an unfinished run; finish it by the same command that began it"
        )
    summary = read_sealed(path, ResultsError, "run the same command again")
    require(summary, path, ResultsError, {"arms": dict, "versions": dict})
    if summary.get("plan"):
        parts = {f"plan.{part}": dict for part in summary["plan"].keys() | {"budgets"}}
        require(summary, path, ResultsError, parts)
    return summary


def _check_names(arms: Mapping[str, Any]) -> None:
    """Refuse arms that would share a directory, and a schedule in the unpruned model's place."""
    slugs = [slug(name) for name in arms]
    clash = next((name for name in arms if slugs.count(slug(name)) > 1), None)
    if clash is not None or arms[UNPRUNED] is not None:
        raise OutputError(
            f"the arm {clash or UNPRUNED!r} would be written where another is; give it another name"
        )


def _claim(out: Path) -> None:
    """Make `out` a directory of comparisons, or find that it is one, also without its manifest."""
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
    return {"schema": _SCHEMA, "kind": KIND, "versions": versions()}


def _summary(comparison: Comparison) -> dict[str, Any]:
    tables = {"table": comparison.table(), "figures": comparison.figures()}
    return {
        "schema": _SCHEMA,
        "versions": versions(),
        "arms": {name: results.identity for name, results in comparison.arms.items()},
        "plan": comparison.plan and asdict(comparison.plan),
        "command": comparison.command,
        "cautions": comparison.cautions,
        "timed": comparison.timing is not None,
        "tokens_per_layer": {
            name: results.tokens_per_layer.tolist() for name, results in comparison.arms.items()
        },
        **{
            name: [
                {key: _json_value(value) for key, value in row.items()}
                for row in table.to_dict("records")
            ]
            for name, table in tables.items()
        },
    }


def _json_value(value: Any) -> Any:
    """NaN as null."""
    return None if isinstance(value, float) and isnan(value) else value


def _macro_mean(strata: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Mean of the strata's means, a value per column; nothing where there is no stratum."""
    means = [stratum.mean() for stratum in strata]
    by_metric: dict[str, float] = pd.DataFrame(means).mean().to_dict()
    return by_metric
