"""A finished search as its files hold it, for reports and figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from tokenlens.errors import ResultsError
from tokenlens.storage.output_paths import kind_of
from tokenlens.storage.run_directory import MANIFEST
from tokenlens.storage.seals import read_sealed, require
from tokenlens.tuning.goal import Goal
from tokenlens.tuning.tuning import COLUMNS, FRONT, TABLE

_AGAIN = "run `tokenlens tune` again in this folder, which writes its files anew"
_TEXTS = ("name", "outcome", "stages", "reason")


@dataclass(frozen=True)
class StoredTuning:
    """The trials of a finished search, and what was chosen.

    Attributes:
        directory: folder of the search.
        identity: model, data, goal and seed, from the manifest.
        goal: goal of the search.
        trials: one row per trial, with the columns `tuning.COLUMNS`.
        samples: number of samples each finished trial was evaluated on.
        held_out_samples: number of held-out samples; 0 where there are none.
        cautions: limits of what the figures show, one sentence each.
        versions: package versions that made it.
        command: the command line it was started with; empty where it is not known.
        schedules: the schedules of the shown trials, as the content of their files.
    """

    directory: Path
    identity: Mapping[str, Any]
    goal: Goal
    trials: pd.DataFrame
    samples: int
    held_out_samples: int
    cautions: tuple[str, ...]
    versions: Mapping[str, str]
    command: tuple[str, ...] = ()
    schedules: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """Read the folder of a finished search; raises `ResultsError` for any other folder."""
        folder = Path(directory)
        if kind_of(folder) != "tuning":
            raise ResultsError(f"{folder} holds no search; make one with `tokenlens tune`")
        if not (folder / FRONT).is_file():
            raise ResultsError(
                f"{folder} is not finished (no {FRONT}); run `tokenlens tune` again to continue it"
            )
        manifest = read_sealed(folder / MANIFEST, ResultsError, _AGAIN)
        front = read_sealed(folder / FRONT, ResultsError, _AGAIN)
        keys: dict[str, type] = {"goal": dict, "samples": int, "held_out_samples": int}
        require(front, folder / FRONT, ResultsError, keys | {"front": list, "cautions": list})
        return cls(
            directory=folder,
            identity=manifest["identity"],
            goal=_goal(front["goal"]),
            trials=_trials(folder / TABLE, front["front"]),
            samples=front["samples"],
            held_out_samples=front["held_out_samples"],
            cautions=tuple(front["cautions"]),
            versions=manifest.get("versions", {}),
            command=_command(front["front"]),
            schedules=tuple(one["schedule"] for one in front["front"] if one["schedule"]),
        )

    def table(self) -> pd.DataFrame:
        """One row per trial, with the columns `tuning.COLUMNS`, as `Tuning.table` gives them."""
        return self.trials


def _goal(stored: Mapping[str, Any]) -> Goal:
    """The goal from its JSON values."""
    budget, least, labels = (stored[key] for key in ("budget", "least", "labels"))
    shares = {"min_retained" if labels else "min_agreement": least}
    return Goal.of(budget, **shares, objective=stored["objective"], labels=labels)


def _command(shown: list[Mapping[str, Any]]) -> tuple[str, ...]:
    """The command line that is in the reasons of the schedules; empty where there is none."""
    reasons = ((one["schedule"] or {}).get("why") or {} for one in shown)
    return tuple(next((one["command"] for one in reasons if one.get("command")), ()))


def _trials(path: Path, shown: list[Mapping[str, Any]]) -> pd.DataFrame:
    """The table of all trials; it has no seal, so the shown ones are held against the front's."""
    try:
        table = pd.read_csv(path, keep_default_na=False)
        table = table[list(COLUMNS)]
        numbers = [name for name in COLUMNS if name not in (*_TEXTS, "on_front", "chosen")]
        table[numbers] = table[numbers].apply(pd.to_numeric)
    except (OSError, ValueError, KeyError) as error:
        raise ResultsError(f"{path} cannot be read ({error}); {_AGAIN}"[:500]) from error
    there = table.set_index("trial")
    for one in shown:
        known = one["trial"] in there.index
        if not known or not _same(there.loc[one["trial"]], one):
            raise ResultsError(
                f"{path} does not hold trial {one['trial']} as {FRONT} has it; {_AGAIN}"
            )
    return table


def _same(row: pd.Series, entry: Mapping[str, Any]) -> bool:
    pairs = [(row[name], entry[name]) for name in ("cost", "retained", "held_out")]
    numbers = np.array([[np.nan if one is None else one for one in pair] for pair in pairs], float)
    same = np.allclose(numbers[:, 0], numbers[:, 1], rtol=1e-9, atol=0, equal_nan=True)
    marks = all(bool(row[name]) == entry[name] for name in ("on_front", "chosen"))
    return same and marks
