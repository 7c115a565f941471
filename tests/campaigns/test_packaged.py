"""The check of built wheels finds what must not ship, what is missing, and a wheel too large."""

import zipfile
from pathlib import Path

import pytest

from tests.campaigns import packaged
from tests.campaigns.packaged import OWN, SMOL, WANTED, faults, main

METADATA = "{name}-1.dist-info/METADATA"
REQUIRED = "Requires-Dist: torch>=2.6\nRequires-Dist: pytest>=8; extra == 'dev'\n"


def build(folder: Path, name: str, left_out: str = "", more: str = "", metadata: str = "") -> Path:
    """A wheel of empty files that holds what is wanted, but for one pattern, and one file more."""
    place = folder / f"{name}-1-py3-none-any.whl"
    wanted = [pattern for pattern in WANTED[name] if pattern != left_out]
    with zipfile.ZipFile(place, "w") as archive:
        for pattern in [*wanted, more] if more else wanted:
            archive.writestr(pattern.replace("*.dist-info", f"{name}-1.dist-info"), b"")
        archive.writestr(METADATA.format(name=name), REQUIRED + metadata)
    return place


@pytest.mark.parametrize("name", WANTED)
def test_a_whole_wheel_has_no_fault(name: str, tmp_path: Path) -> None:
    assert faults(build(tmp_path, name)) == []


@pytest.mark.parametrize(("name", "pattern"), [(n, p) for n in WANTED for p in WANTED[n]])
def test_what_is_missing_is_named(name: str, pattern: str, tmp_path: Path) -> None:
    assert faults(build(tmp_path, name, left_out=pattern)) == [f"has no {pattern}"]


@pytest.mark.parametrize(
    "file", ["tests/test_it.py", "tokenlens/tests/x.py", "tokenlens/data/smol-llava/config.json"]
)
def test_what_must_not_ship_is_named(file: str, tmp_path: Path) -> None:
    assert any(file in fault for fault in faults(build(tmp_path, OWN, more=file)))


def test_a_requirement_of_developers_is_a_fault_without_its_extra(tmp_path: Path) -> None:
    wheel = build(tmp_path, OWN, metadata="Requires-Dist: ruff>=0.9\n")
    assert faults(wheel) == ["requires ruff"]


def test_a_wheel_too_large_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = build(tmp_path, OWN)
    monkeypatch.setattr(packaged, "LIMIT", wheel.stat().st_size - 1)
    assert "at most" in faults(wheel)[0]
    assert faults(build(tmp_path, SMOL)) == []


def test_both_wheels_must_be_there(tmp_path: Path) -> None:
    build(tmp_path, OWN)
    assert main(tmp_path) == 1
    build(tmp_path, SMOL)
    assert main(tmp_path) == 0
    build(tmp_path, OWN, more="tests/test_it.py")
    assert main(tmp_path) == 1
