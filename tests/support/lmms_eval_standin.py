"""The little of lmms-eval that its plugins import, for where it is not installed.

`lmms` and `ModelManifest` have the names and the fields of lmms-eval 0.7.3.
"""

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pytest


class lmms:  # noqa: N801 - lmms-eval's name
    """Base of its models."""

    is_simple = True

    def __init__(self) -> None:
        self._rank, self._world_size, self.task_dict = 0, 1, {}

    @property
    def rank(self) -> int:
        return self._rank


@dataclass(frozen=True)
class ModelManifest:
    """What a plugin registers."""

    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None
    aliases: tuple[str, ...] = ()


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `import lmms_eval` work, unless it is there."""
    if find_spec("lmms_eval") is not None:
        import_module("lmms_eval.models")  # which reads the manifest, so it comes first
        return
    contents = {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.model": {"lmms": lmms},
        "lmms_eval.models": {"get_model": None},
        "lmms_eval.models.registry_v2": {"ModelManifest": ModelManifest},
    }
    for name, values in contents.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)


def request(
    context: str, row: int, pictures: object, *, task: str = "t", **options: object
) -> SimpleNamespace:
    """A request of a task of type generate_until."""
    return SimpleNamespace(args=(context, options, pictures, row, task, "test"))
