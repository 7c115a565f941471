"""A tracker that keeps what it is told, and stand-ins for the packages of trackers."""

import json
from collections.abc import Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


class Recorded:
    """What a tracker was told, in order."""

    def __init__(self) -> None:
        self.begun: list[tuple[Path, dict[str, Any]]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.ended: list[tuple[dict[str, Any], dict[str, str]]] = []

    def begin(self, directory: Path, settings: Mapping[str, Any]) -> None:
        self.begun.append((directory, dict(settings)))

    def log(self, figures: Mapping[str, float], step: int = 0) -> None:
        self.logged.append((step, dict(figures)))

    def end(self, tables: Mapping[str, Any], files: Mapping[str, str]) -> None:
        self.ended.append((dict(tables), dict(files)))


Told = list[tuple[str, Any]]


def _installed(patch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    patch.setitem(__import__("sys").modules, name, module)


def stand_in_wandb(patch: pytest.MonkeyPatch) -> Told:
    """wandb as far as it is called; what it was told."""
    told: Told = []

    class Artifact:
        def __init__(self, name: str, type: str) -> None:  # noqa: A002 - wandb's own word
            self.files: dict[str, str] = {}

        @contextmanager
        def new_file(self, name: str) -> Any:
            stream = StringIO()
            yield stream
            self.files[name] = stream.getvalue()

    class Run:
        def log(self, figures: dict[str, Any], step: int | None = None) -> None:
            told.append(("log", (figures, step)))

        def log_artifact(self, artifact: Artifact) -> None:
            told.append(("files", artifact.files))

        def finish(self) -> None:
            told.append(("end", None))

    def init(**settings: Any) -> Run:
        json.dumps(settings)
        told.append(("begin", settings))
        return Run()

    _installed(patch, "wandb", init=init, Artifact=Artifact, Table=lambda columns, data: data)
    return told


def stand_in_mlflow(patch: pytest.MonkeyPatch) -> Told:
    """MLflow likewise."""
    told: Told = []

    def noted(name: str) -> Any:
        return lambda *given, **named: told.append((name, (*given, *named.values())))

    names = ("set_experiment", "start_run", "log_params", "log_metrics", "log_table", "log_text")
    _installed(patch, "mlflow", end_run=noted("end"), **{name: noted(name) for name in names})
    return told


def stand_in_tensorboard(patch: pytest.MonkeyPatch) -> Told:
    """torch's writer of event files likewise."""
    told: Told = []

    class SummaryWriter:
        def __init__(self, log_dir: str) -> None:
            told.append(("begin", log_dir))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append(("log", (name, value, step)))

        def add_text(self, name: str, text: str) -> None:
            told.append(("text", (name, text)))

        def close(self) -> None:
            told.append(("end", None))

    _installed(patch, "tensorboard")
    _installed(patch, "torch.utils.tensorboard", SummaryWriter=SummaryWriter)
    return told
