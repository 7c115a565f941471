"""Experiment trackers: a run's settings, figures, tables and schedules at wandb and its like."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from tokenlens.errors import OptionError, TrackerError
from tokenlens.wording.printable import shown
from tokenlens.wording.suggest import one_of
from tokenlens.wording.table_text import markdown_text

Rows = Sequence[Mapping[str, Any]]
"""A table: a row each, all with the same columns."""
PROJECT = "tokenlens"
"""What runs are filed under, where the tracker's own settings name nothing else."""
_LONGEST = 500
"""Characters of a setting that every version of MLflow takes."""


class Tracker(Protocol):
    """What records a run as it goes; one object per run.

    Settings and cells are values of JSON, figures finite, and tables have a row at least.
    """

    def begin(self, directory: Path, settings: Mapping[str, Any]) -> None:
        """Begin the run that writes to `directory`, whose name is the run's."""

    def log(self, figures: Mapping[str, float], step: int = 0) -> None:
        """Record figures by name; `step` rises from call to call."""

    def end(self, tables: Mapping[str, Rows], files: Mapping[str, str]) -> None:
        """Record tables, and the texts of files, by name, and close the run."""


class WandbTracker:
    """A run of Weights & Biases; where it goes is wandb's own setting, such as WANDB_MODE."""

    def begin(self, directory: Path, settings: Mapping[str, Any]) -> None:
        """Start the run, with the settings as its configuration."""
        self._wandb: Any = import_module("wandb")
        self._run: Any = self._wandb.init(
            project=PROJECT, name=directory.name, config=dict(settings)
        )

    def log(self, figures: Mapping[str, float], step: int = 0) -> None:
        """Log figures at a step."""
        self._run.log(dict(figures), step=step)

    def end(self, tables: Mapping[str, Rows], files: Mapping[str, str]) -> None:
        """Log tables, and the files as an artifact; finish."""
        for name, rows in tables.items():
            data = [list(row.values()) for row in rows]
            self._run.log({name: self._wandb.Table(columns=list(rows[0]), data=data)})
        if files:
            artifact = self._wandb.Artifact(f"{PROJECT}-schedules", type="schedule")
            for name, text in files.items():
                with artifact.new_file(name) as stream:
                    stream.write(text)
            self._run.log_artifact(artifact)
        self._run.finish()


class TensorBoardTracker:
    """Event files in `tensorboard/NAME` beside the run's directory NAME."""

    def begin(self, directory: Path, settings: Mapping[str, Any]) -> None:
        """Open the event file, and write the settings as text."""
        place = directory.parent / "tensorboard" / directory.name
        writer = import_module("torch.utils.tensorboard").SummaryWriter
        self._writer: Any = writer(log_dir=str(place))
        self._writer.add_text("settings", _code(json.dumps(settings, indent=2)))

    def log(self, figures: Mapping[str, float], step: int = 0) -> None:
        """Write figures as scalars."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def end(self, tables: Mapping[str, Rows], files: Mapping[str, str]) -> None:
        """Write tables and files as text; close the event file."""
        for name, rows in tables.items():
            lines = [list(rows[0]), ["---"] * len(rows[0])]
            lines += [[markdown_text(str(value)) for value in row.values()] for row in rows]
            text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            self._writer.add_text(name, text)
        for name, text in files.items():
            self._writer.add_text(name, _code(text))
        self._writer.close()


class MlflowTracker:
    """A run of MLflow; where it goes is MLflow's own setting, such as MLFLOW_TRACKING_URI."""

    def begin(self, directory: Path, settings: Mapping[str, Any]) -> None:
        """Start the run, with the settings as its parameters, nested ones joined with dots."""
        self._mlflow: Any = import_module("mlflow")
        self._mlflow.set_experiment(PROJECT)
        self._mlflow.start_run(run_name=directory.name)
        self._mlflow.log_params(dict(_flat(settings)))

    def log(self, figures: Mapping[str, float], step: int = 0) -> None:
        """Log figures at a step."""
        self._mlflow.log_metrics(dict(figures), step=step)

    def end(self, tables: Mapping[str, Rows], files: Mapping[str, str]) -> None:
        """Log tables and files as artifacts; end the run."""
        for name, rows in tables.items():
            columns = {column: [row[column] for row in rows] for column in rows[0]}
            self._mlflow.log_table(columns, artifact_file=f"{name}.json")
        for name, text in files.items():
            self._mlflow.log_text(text, name)
        self._mlflow.end_run()


TRACKERS: dict[str, Callable[[], Tracker]] = {
    "wandb": WandbTracker,
    "tensorboard": TensorBoardTracker,
    "mlflow": MlflowTracker,
}


def find_tracker(name: str) -> Tracker:
    """The tracker called `name`, not begun.

    Raises `OptionError` for an unknown name, and where its package is not installed.
    """
    if name not in TRACKERS:
        raise OptionError(f"--track: got {shown(name)}, expected {one_of(name, TRACKERS)}")
    if name not in sys.modules and find_spec(name) is None:
        raise OptionError(
            f"--track {name} needs the package {name}; install it with: "
            f'pip install "tokenlens[{name}]"'
        )
    return Guarded(TRACKERS[name](), name)


class Guarded:
    """A tracker whose failures are `TrackerError`s."""

    def __init__(self, inner: Tracker, name: str) -> None:
        self._inner, self._name = inner, name

    def begin(self, directory: Path, settings: Mapping[str, Any]) -> None:
        """Begin the run."""
        with self._told():
            self._inner.begin(directory, settings)

    def log(self, figures: Mapping[str, float], step: int = 0) -> None:
        """Record figures."""
        with self._told():
            self._inner.log(figures, step)

    def end(self, tables: Mapping[str, Rows], files: Mapping[str, str]) -> None:
        """Record tables and files; close the run."""
        with self._told():
            self._inner.end(tables, files)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            cause = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise TrackerError(
                f"{self._name} does not take the run ({cause}); see its own settings, or leave "
                "--track out: the results are in their folder"
            ) from error


def finite(figures: Mapping[str, float | None]) -> dict[str, float]:
    """The figures that are finite numbers.

    >>> finite({"a": 1, "b": None, "c": float("nan")})
    {'a': 1.0}
    """
    return {
        name: float(value)
        for name, value in figures.items()
        if value is not None and isfinite(value)
    }


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as names with dots and texts."""
    for name, value in settings.items():
        key = re.sub(r"[^\w.\- /]", "-", f"{prefix}{name}")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        else:
            yield key, (value if isinstance(value, str) else json.dumps(value))[:_LONGEST]


def _code(text: str) -> str:
    """A text as a block of code in Markdown."""
    return "".join(f"    {line}\n" for line in text.splitlines())
