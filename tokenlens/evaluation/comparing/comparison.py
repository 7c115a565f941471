"""Comparison of the unpruned model with pruned ones on the same samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isnan
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tokenlens.errors import ResultsError
from tokenlens.evaluation.comparing.statistics import score_statistics
from tokenlens.evaluation.comparing.summary import SUMMARY, Plan, read_summary
from tokenlens.evaluation.comparing.timing import FILE as TIMING
from tokenlens.evaluation.comparing.timing import Timing
from tokenlens.evaluation.metrics.agreement import agreement_statistics, rows_agreement
from tokenlens.evaluation.metrics.set_metrics import Figure, set_figures
from tokenlens.evaluation.running.results import MACRO, Results, task_groups
from tokenlens.probing.profile import Profile
from tokenlens.registry import drawing
from tokenlens.storage.output_paths import kind_of, slug
from tokenlens.storage.seals import write_sealed
from tokenlens.storage.versions import versions

KIND = "comparison"
UNPRUNED = "unpruned"
SCHEMA = 1
_COSTS = ("tokens", "macs", "scoring_macs", "merging_macs", "kv_bytes")

Computed = TypeVar("Computed")


@dataclass(frozen=True)
class Comparison:
    """Arms run on the same samples, each against the unpruned model.

    Attributes:
        arms: results by the arm's name, the unpruned model's first.
        timing: times of the arms, measured side by side; None where they were not measured.
        plan: the arms of each table; None where the arms were given by name alone.
        cautions: limits of what the samples can show, one sentence each.
        command: words of the command line that made it; None where a Python program made it.
        directory: directory of its files; None where it was made in memory.
    """

    arms: Mapping[str, Results]
    timing: Timing | None = None
    plan: Plan | None = None
    cautions: tuple[str, ...] = ()
    command: tuple[str, ...] | None = None
    directory: Path | None = None
    _computed: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """Read a finished comparison; raises `ResultsError` where there is none."""
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
            directory,
        )

    def kept(self) -> Self:
        """The same with all rows in memory, so that its directory may go."""
        return replace(self, arms={name: results.kept() for name, results in self.arms.items()})

    def save(self, directory: Path) -> None:
        """Write `summary.json`, whole or not at all; rows and times have files of their own."""
        tables = {"table": self.table(), "figures": self.figures()}
        summary = {
            "schema": SCHEMA,
            "versions": versions(),
            "arms": {name: results.identity for name, results in self.arms.items()},
            "plan": self.plan and asdict(self.plan),
            "command": self.command,
            "cautions": self.cautions,
            "timed": self.timing is not None,
            "tokens_per_layer": {
                name: results.tokens_per_layer.tolist() for name, results in self.arms.items()
            },
            **{
                name: [
                    {key: _json_value(value) for key, value in row.items()}
                    for row in table.to_dict("records")
                ]
                for name, table in tables.items()
            },
        }
        write_sealed(directory / SUMMARY, summary)

    def explore(self, profile: Profile | None = None, samples: int = 24) -> Any:
        """The report's explorer in a notebook: answers, and what each arm keeps.

        Args:
            profile: of the same model, for the importance of samples that it holds too.
            samples: how many samples are shown at most.

        Raises `OptionError` without anywidget (`pip install "tokenlens[notebook]"`), and
        `ResultsError` for a profile of another model, or where it is not known what the visual
        tokens cover.
        """
        return drawing("comparison explorer")(self, profile, samples)

    def table(self) -> pd.DataFrame:
        """Scores, what is retained of the unpruned model's, and costs: one row per task and arm.

        Columns: `task` (each task, then `all` and `macro`), `arm`, `samples`, `unscored` (samples
        without ground truth), `score` and `retained` of those with ground truth and `agreement`
        with the unpruned model's answers of all (`evaluation.metrics.agreement`; `macro` is over
        all tasks), each with the ends of its paired bootstrap interval (`_low`, `_high`, 95 %), and
        means per sample: `tokens` (visual tokens entering a
        layer, mean over layers), `macs` (scoring and merging included), `scoring_macs`,
        `merging_macs`, `kv_bytes`, `prefill_s`, `decode_s`. The two times are those of `timing`,
        whose batches hold all tasks: they are the same in every task's row, and NaN where nothing
        was timed. The table is computed once; every call returns a copy.
        """
        return self.once("table", Comparison._table).copy()

    @property
    def methods(self) -> Mapping[str, Mapping[str, str]]:
        """The arm of every method that was run, by budget and method.

        Arms without a plan have no budget: they stand under the empty text, all but the unpruned.
        """
        if self.plan:
            return self.plan.budgets
        return {"": {arm: arm for arm in self.arms if arm != UNPRUNED}}

    def once(self, name: str, make: Callable[[Self], Computed]) -> Computed:
        """The result of `make` for this comparison, computed only at the first call for `name`.

        Bootstraps take time, so the terminal, the files and the report share them.
        """
        if name not in self._computed:
            self._computed[name] = make(self)
        found: Computed = self._computed[name]
        return found

    def _table(self) -> pd.DataFrame:
        costs = {arm: self._costs(arm) for arm in self.arms}
        unpruned = next(iter(self.arms.values())).outcomes
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
        """Agreement of an arm's answers with the unpruned model's: 1.0 or 0.0 per sample.

        NaN where the rows do not hold the answers.
        """
        unpruned = next(iter(self.arms.values()))
        return rows_agreement(self.arms[arm].outcomes, unpruned.outcomes)

    def agreements(self, strata: Sequence[pd.DataFrame]) -> list[NDArray[np.float64]]:
        """Agreement [samples, arms] of all samples of each stratum (rows of the unpruned model)."""
        every = self.once("agreement", Comparison._agreement)
        return [every.loc[stratum.index].to_numpy() for stratum in strata]

    def _agreement(self) -> pd.DataFrame:
        return pd.DataFrame({arm: self.agreement(arm) for arm in self.arms})

    def scores(self, strata: Sequence[pd.DataFrame]) -> list[NDArray[np.float64]]:
        """Scores [samples, arms] of the samples that have ground truth, for strata that have any.

        Args:
            strata: rows of the unpruned model.
        """
        places = [stratum.index[stratum["score"].notna()] for stratum in strata]
        return [
            np.stack(
                [arm.outcomes["score"].loc[place].to_numpy() for arm in self.arms.values()], axis=1
            )
            for place in places
            if len(place)
        ]

    def _statistics(self, strata: Sequence[pd.DataFrame]) -> list[dict[str, float]]:
        return score_statistics(self.scores(strata), len(self.arms))

    def _costs(self, arm: str) -> pd.DataFrame:
        """The cost of every sample of an arm, with the arm's times in every row."""
        rows = self.arms[arm].outcomes
        costs = rows[list(_COSTS)].copy()
        timing = self.timing
        for name in ("prefill_s", "decode_s"):
            if timing is not None and arm in timing.arms:
                costs[name] = timing.of(name, [arm]).mean()
            else:  # Without separate timing, the rows hold the times, if any.
                costs[name] = rows[name].astype(float)
        return costs

    def figures(self) -> pd.DataFrame:
        """Benchmark figures of the whole set of answers, with columns task, figure, arm, value.

        Empty where the benchmarks of the samples report only their mean score.
        """
        rows = [
            (task, figure, arm, value)
            for arm, results in self.arms.items()
            for task, figure, value in set_figures(results.outcomes)
        ]
        return pd.DataFrame(rows, columns=["task", "figure", "arm", "value"])

    def reported(self) -> list[tuple[str, str, list[str]]]:
        """`figures` as text: task, figure, and its value for each arm in order."""
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


def _json_value(value: Any) -> Any:
    """A value for JSON; NaN becomes null."""
    return None if isinstance(value, float) and isnan(value) else value


def _macro_mean(strata: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Mean of the strata's means, one value per column; empty where there is no stratum."""
    means = [stratum.mean() for stratum in strata]
    by_metric: dict[str, float] = pd.DataFrame(means).mean().to_dict()
    return by_metric
