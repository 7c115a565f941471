"""Rooms and arrows: no circle, nothing upward, no file or function that has grown too long."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture import FOLDERS, LONG, MOST_LONG, MOST_LOOSE, ROOT, House

HOUSE = House.read()


def test_no_modules_import_each_other() -> None:
    assert HOUSE.circles() == []


def test_no_import_goes_against_the_arrows() -> None:
    assert HOUSE.upward() == []


def test_few_modules_lie_outside_of_the_rooms() -> None:
    assert len(HOUSE.loose()) <= MOST_LOOSE


def test_files_and_functions_are_short() -> None:
    assert HOUSE.long_files() == []
    assert HOUSE.long_functions().keys() <= LONG.keys()
    assert len(LONG) <= MOST_LONG


@pytest.fixture
def crooked(tmp_path: Path) -> House:
    """A library of two rooms with one import of each kind that is refused."""
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
    (tmp_path / "tokenlens/__init__.py").write_text("from tokenlens.pruning.a import x\n")
    for room in ("pruning", "schedule"):
        (tmp_path / "tokenlens" / room).mkdir()
        (tmp_path / "tokenlens" / room / "__init__.py").write_text("")
    (tmp_path / "tokenlens/pruning/a.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tokenlens.pruning import b\n"
    )
    (tmp_path / "tokenlens/pruning/b.py").write_text("def f():\n    from .a import x\n")
    (tmp_path / "tokenlens/schedule/c.py").write_text(
        "def f():\n    import tokenlens.pruning.a\n" + "    pass\n" * 400
    )
    return House.read(tmp_path)


def test_type_only_and_deferred_imports_count(crooked: House) -> None:
    """The control: the same questions find what is put there to be found."""
    assert crooked.circles() == [["tokenlens.pruning.a", "tokenlens.pruning.b"]]
    assert crooked.upward() == ["tokenlens.schedule.c -> tokenlens.pruning.a"]
    assert crooked.long_files() == ["tokenlens.schedule.c: 402"]
    assert crooked.long_functions() == {"tokenlens.schedule.c.f": 402}


def test_a_schedule_needs_neither_torch_nor_transformers() -> None:
    """Made, counted, saved and read: in a process of its own, which tells what it imported."""
    script = """if True:
        import sys
        from tokenlens.schedule import Schedule, parse_budget
        stages = [
            {"score_layer": 2, "when": "after", "keep": 0.5, "disposal": "bypass", "merge": 0.1},
            {"score_layer": 4, "when": "before", "keep": 24, "disposal": "drop"},
        ]
        model = {"architecture": "LlamaForCausalLM", "layers": 8}
        schedule = Schedule(schema=1, method="mine", model=model, stages=stages)
        assert schedule.tokens_entering(144)[-1] == 24
        assert str(parse_budget("33%")) == "33 %"
        print(sorted({"torch", "transformers"} & sys.modules.keys()))
    """
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert ended.stdout.strip() == "[]"


def test_every_package_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = settings["tool"]["setuptools"]["packages"]
    house = HOUSE
    packages = {
        name if file.name == "__init__.py" else name.rpartition(".")[0]
        for name, file in house.files.items()
    }
    assert sorted(listed) == sorted(packages)
