"""The unpruned model and pruned ones side by side on the same samples."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any, Self

import pandas as pd

from tokenlens.environment import versions
from tokenlens.errors import OutputError, ResultsError
from tokenlens.evaluation.results import Results, task_groups
from tokenlens.evaluation.run import Run
from tokenlens.evaluation.set_metrics import Figure, set_figures
from tokenlens.evaluation.statistics import score_statistics
from tokenlens.files import write_json
from tokenlens.models.vlm import VLM
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule
from tokenlens.workspace import kind_of, slug

KIND = "comparison"
UNPRUNED = "unpruned"
_SCHEMA = 1
_COSTS = ("macs", "scoring_macs", "merging_macs", "kv_bytes", "prefill_s", "decode_s")


@dataclass(frozen=True)
class Comparison:
    """Arms run on the same samples, each against the unpruned model.

    Attributes:
        arms: results by the arm's name, the unpruned model's first.
    """

    arms: Mapping[str, Results]

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """Read what a finished `compare` wrote; `ResultsError` where there is none."""
        directory = Path(directory)
        if kind_of(directory) != KIND:
            raise ResultsError(
                f"{directory} holds no results; make some with `tokenlens run --out {directory}`"
            )
        try:
            summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
            names = list(summary["arms"])
        except FileNotFoundError as error:
            raise ResultsError(
                f"{directory} holds an unfinished run; finish it by the same command that began it"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ResultsError(
                f"cannot read {directory / 'summary.json'}: {error}; run the same command again"
            ) from error
        return cls({name: Results.load(directory / slug(name)) for name in names})

    def table(self) -> pd.DataFrame:
        """Scores, what is retained of the unpruned model's, and costs: one row per task and arm.

        Columns: `task` (each task, then `all` and `macro`), `arm`, `samples`, `unscored` (samples
        without ground truth), `score` and `retained` with the ends of their paired bootstrap
        intervals (`_low`, `_high`, 95 %), and means per sample: `tokens` (visual tokens entering a
        layer, mean over layers), `macs` (scoring and merging included), `scoring_macs`,
        `merging_macs`, `kv_bytes`, `prefill_s`, `decode_s`.
        """
        baseline = next(iter(self.arms.values())).rows
        rows = [
            {
                "task": task,
                "arm": arm,
                "samples": sum(map(len, strata)),
                "unscored": sum(int(stratum["score"].isna().sum()) for stratum in strata),
                **score_statistics(_scored(baseline, strata)),
                **_costs(strata),
            }
            for arm, results in self.arms.items()
            for task, strata in task_groups(results.rows)
        ]
        order = {task: place for place, (task, _) in enumerate(task_groups(baseline))}
        return pd.DataFrame(rows).sort_values(
            "task", key=lambda tasks: tasks.map(order), kind="stable", ignore_index=True
        )

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

    Raises:
        ScheduleError: a schedule is for another model.
        SampleError: no samples, or a picture that cannot be used; rows before it are kept.
        OutputError: `out` holds something else, or cannot be written to.
    """
    out = Path(out)
    arms: dict[str, Schedule | None] = {UNPRUNED: None, **schedules}
    _check_names(arms)
    run = Run(vlm, samples, batch_size, max_new_tokens, any_model, show_progress)
    run.check(arms.values())
    _claim(out)
    results = run.into({out / slug(name): schedule for name, schedule in arms.items()})
    comparison = Comparison(dict(zip(arms, results, strict=True)))
    write_json(out / "summary.json", _summary(comparison))
    write_json(out / "manifest.json", _manifest())
    return comparison


def _check_names(arms: Mapping[str, Any]) -> None:
    """Refuse arms that would share a directory, and a schedule in the unpruned model's place."""
    slugs = [slug(name) for name in arms]
    clash = next((name for name in arms if slugs.count(slug(name)) > 1), None)
    if clash is not None or arms[UNPRUNED] is not None:
        raise OutputError(
            f"the arm {clash or UNPRUNED!r} would be written where another is; give it another name"
        )


def _claim(out: Path) -> None:
    """Make `out` a directory of comparisons, or find that it is one."""
    if kind_of(out) == KIND:
        return
    if out.exists() and (not out.is_dir() or any(out.glob("[!.]*"))):
        raise OutputError(f"{out} exists and holds no results; choose another directory with --out")
    write_json(out / "manifest.json", _manifest())


def _manifest() -> dict[str, Any]:
    return {"schema": _SCHEMA, "kind": KIND, "versions": versions()}


def _summary(comparison: Comparison) -> dict[str, Any]:
    tables = {"table": comparison.table(), "figures": comparison.figures()}
    return {
        "schema": _SCHEMA,
        "versions": versions(),
        "arms": {name: results.identity for name, results in comparison.arms.items()},
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


def _scored(baseline: pd.DataFrame, strata: Sequence[pd.DataFrame]) -> list[tuple[Any, Any]]:
    """Scores of baseline and arm in every stratum, over the samples that have ground truth."""
    scored = [stratum["score"].dropna() for stratum in strata]
    return [
        (baseline["score"].loc[scores.index].to_numpy(), scores.to_numpy())
        for scores in scored
        if len(scores)
    ]


def _costs(strata: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Mean over the strata of their means per sample."""
    costs = [
        {
            "tokens": stratum["tokens_per_layer"].map(lambda tokens: tokens.mean()).mean(),
            **{name: stratum[name].mean() for name in _COSTS},
        }
        for stratum in strata
    ]
    return pd.DataFrame(costs, columns=["tokens", *_COSTS]).mean().to_dict()
