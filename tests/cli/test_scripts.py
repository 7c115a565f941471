"""`--json`: every command prints one object with the documented keys, and nothing else."""

import contextlib
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from tests.cli.test_cli import COMMANDS
from tests.conftest import Ended
from tests.support.repository import ROOT
from tokenlens import __version__
from tokenlens.cli.main import app, main

Command = Callable[..., Ended]
KEYS = ["tokenlens", "schema", "command", "results", "written", "cautions", "warnings", "next"]
STEPS: dict[str, list[str]] = {
    "profile": ["--limit", "8"],
    "select-layers": ["--stages", "2"],
    "run": ["--limit", "4"],
    "report": ["--pictures", "1", "--samples", "1"],
    "figures": ["--pictures", "1", "--formats", "png"],
    "cite": [],
    "share": ["out.json", "me/plans", "--dry-run"],
    "information": ["--limit", "2", "--dry-run"],
    "knock-out": ["--limit", "2", "--every", "8", "--dry-run"],
    "tune": ["--budget", "33%", "--limit", "2", "--dry-run"],
    "bench": ["--dry-run"],
    "demo": ["--dry-run"],
    "show": ["dot.png", "what is it ?", "--max-new-tokens", "2"],
    "cost": ["--method", "fastv"],
    "models": [],
    "methods": [],
    "benchmarks": [],
    "env": [],
    "setup": ["nobody"],
}
"""How each command is run, in this order in one folder."""


def documented() -> dict[str, set[str]]:
    """The keys of each command's results, from the page."""
    text = (ROOT / "docs" / "scripts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (`.*) \|$", text.partition("keys of `results`")[2], re.M)
    return {name: set(re.findall(r"`(\w+)`", keys)) for name, keys in rows}


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code and output of a command, in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["tokenlens", *arguments])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each command of `STEPS` printed, and how many files it made."""
    folder = tmp_path_factory.mktemp("scripts")
    Image.new("RGB", (56, 56), "red").save(folder / "dot.png")
    found = {}
    with contextlib.chdir(folder):
        for name, arguments in STEPS.items():
            before = files(folder)
            printed = run(name, *arguments, "--json")
            found[name] = (*printed, files(folder) - before)
    return found


def test_every_command_is_run_and_documented() -> None:
    known = set(typer.main.get_command(app).commands)
    assert known == set(STEPS) == {*COMMANDS, "setup"} == set(documented())


@pytest.mark.parametrize("name", STEPS)
def test_standard_output_is_one_object_with_the_documented_keys(
    name: str, ended: dict[str, Any]
) -> None:
    code, out, err, made = ended[name]
    found = json.loads(out)  # fails where anything stands before or after it
    assert list(found)[: len(KEYS)] == KEYS
    assert (found["tokenlens"], found["schema"], found["command"]) == (__version__, 1, name)
    if name == "setup":
        assert (code, found["error"]["type"]) == (2, "ModelError"), err
        return
    assert code == 0, err
    assert "error" not in found
    assert found["results"]
    if name != "env":
        assert set(found["results"]) <= documented()[name]
    assert not re.search(r"NaN|Infinity", out)
    if "--dry-run" in STEPS[name]:
        assert (made, found["written"]) == (set(), [])
    if name in ("profile", "select-layers", "run", "report", "figures", "show"):
        assert found["written"]
        assert made


def test_what_is_written_is_there_and_the_next_command_is_given(ended: dict[str, Any]) -> None:
    found = {name: json.loads(ended[name][1]) for name in ("profile", "select-layers", "run")}
    assert found["select-layers"]["written"] == [{"what": "Schedule", "path": "out.json"}]
    assert found["profile"]["next"] == "tokenlens select-layers"
    assert found["select-layers"]["next"] == "tokenlens run --schedule out.json"
    assert len(found["select-layers"]["results"]["layers"]) == 2
    assert found["run"]["cautions"]
    rows = found["run"]["results"]["table"]
    assert {row["arm"] for row in rows} == {"unpruned", "swiftvlm"}


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("cost", "--method", "fastvv"), "ScheduleError"),
        (("cost", "--nobody"), "OptionError"),
        (("cost", "--text-tokens", "x"), "OptionError"),
        (("cost", "--method", ""), "OptionError"),
        (("nobody",), "OptionError"),
        (("run", "--schedule", "x\x1b[2J\u202ey.json"), "ScheduleError"),
    ],
)
def test_an_error_is_an_object_with_the_same_exit_code(
    command: Command, arguments: tuple[str, ...], kind: str
) -> None:
    plain, ended = command(*arguments), command(*arguments, "--json")
    found = json.loads(ended.out)
    assert (plain.code, ended.code, found["error"]["type"]) == (2, 2, kind)
    assert ended.err == plain.err == f"tokenlens: {found['error']['message']}\n"
    assert ended.out.isascii()


def test_a_defect_is_an_object_too(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenlens.storage import versions

    monkeypatch.setattr(versions, "versions", lambda: 1 / 0)
    ended = command("env", "--json")
    assert (ended.code, json.loads(ended.out)["error"]["type"]) == (1, "ZeroDivisionError")


def test_what_a_library_prints_goes_to_standard_error(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenlens.storage import versions

    known = versions.versions()

    def talkative() -> dict[str, str]:
        print("hello")
        return known

    monkeypatch.setattr(versions, "versions", talkative)
    ended = command("env", "--json")
    assert json.loads(ended.out)["results"]["python"]
    assert "hello" in ended.err
    assert "hello" in command("env").out


def test_quiet_says_the_results_alone(command: Command, tmp_path: Path) -> None:
    loud = command("profile", "--limit", 2, "--out", "a")
    still = command("profile", "--limit", 2, "--out", "b", "--quiet")
    assert (loud.code, still.code) == (0, 0)
    assert "profile" in loud.err
    assert still.err == ""
    assert "Next:" in loud.out
    assert "Next:" not in still.out
    assert "Profile of tiny-qwen2-vl" in still.out


def test_verbose_says_the_settings_and_the_time(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENLENS_COST_METHOD", "fastv")
    ended = command("cost", "--verbose")
    assert "Setting: --method fastv, from the environment" in ended.err
    assert "Took " in ended.err
    assert "exclude each other" in command("env", "--quiet", "--verbose").line


@pytest.mark.parametrize("criterion", ["region", "mass"])
def test_a_dry_run_of_select_layers_shows_the_choice_and_writes_nothing(
    command: Command, tmp_path: Path, criterion: str
) -> None:
    assert command("profile", "--limit", 8).code == 0
    before = files(tmp_path)
    ended = command("select-layers", "--criterion", criterion, "--dry-run")
    assert "◀ chosen" in ended.out
    assert files(tmp_path) == before


def test_a_dry_run_of_run_counts_what_is_there_and_writes_nothing(
    command: Command, tmp_path: Path
) -> None:
    words = ("run", "--compare", "fastv,stride", "--budget", "33%", "--limit", 3)
    dry = json.loads(command(*words, "--dry-run", "--json").out)["results"]
    assert files(tmp_path) == set()
    assert (dry["dry_run"]["runs"], dry["answers"], dry["dry_run"]["done"]) == (3, 9, 0)
    assert dry["dry_run"]["seconds"] > 0
    assert command(*words).code == 0
    before = files(tmp_path)
    again = json.loads(command(*words, "--dry-run", "--json").out)["results"]
    assert (again["dry_run"]["done"], again["dry_run"]["seconds"]) == (9, 0)
    assert (tmp_path / again["directory"]).is_dir()
    assert files(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("information", "--limit", 2),
        ("knock-out", "--limit", 2, "--every", 8),
        ("tune", "--budget", "33%", "--limit", 4, "--trials", 1, "--held-out", 4),
        ("bench", "--rounds", 2, "--methods", "stride", "--decode-tokens", 0),
        ("demo", "--limit", 4),
    ],
    ids=lambda words: words[0],
)
def test_long_commands_print_the_documented_keys(command: Command, words: tuple[Any, ...]) -> None:
    ended = command(*words, "--json")
    found = json.loads(ended.out)
    assert ended.code == 0, ended.err
    assert set(found["results"]) <= documented()[words[0]]
    assert found["written"]
