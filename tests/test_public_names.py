"""The names users type, and what importing them costs."""

import json
import subprocess
import sys
from types import ModuleType

import pytest

import tokenlens as tl


def loaded_by(code: str) -> set[str]:
    """Top-level modules in memory after `code`, in a fresh interpreter."""
    report = "import sys, json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(ended.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", tl.__all__)
def test_every_public_name_is_there_and_is_no_module(name: str) -> None:
    assert not isinstance(getattr(tl, name), ModuleType)
    assert name in dir(tl)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'prob'"):
        _ = tl.prob  # type: ignore[attr-defined]


HEAVY = {"torch", "transformers", "pandas", "numpy", "matplotlib", "scipy", "pyarrow"}


@pytest.mark.parametrize(
    "code",
    [
        "import tokenlens",
        "import sys\nfrom tokenlens.cli.main import main\nsys.argv = ['tokenlens', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass",
        "import sys\nfrom tokenlens.cli.main import main\n"
        "sys.argv = ['tokenlens', 'profile', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass",
    ],
    ids=["import", "help", "command-help"],
)
def test_import_and_help_load_nothing_heavy(code: str) -> None:
    assert not loaded_by(code) & HEAVY


def test_the_measure_of_what_is_loaded_sees_a_heavy_import() -> None:
    assert loaded_by("import numpy") & HEAVY


@pytest.mark.parametrize("room", ["measures", "selection"])
def test_maths_knows_no_models(room: str) -> None:
    code = (
        f"import importlib, pkgutil, tokenlens.{room} as room\n"
        "for module in pkgutil.iter_modules(room.__path__, room.__name__ + '.'):\n"
        "    importlib.import_module(module.name)"
    )
    assert not loaded_by(code) & {"torch", "transformers"}
