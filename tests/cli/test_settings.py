"""Settings: command line before environment before file before default; bad files are refused."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from tests.conftest import Ended
from tokenlens.cli.main import app
from tokenlens.cli.settings import COMMON
from tokenlens.wording.printable import MESSAGE_LIMIT, is_control

Command = Callable[..., Ended]


def settings(folder: Path, text: str, name: str = "tokenlens.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def asked(command: Command, *words: object) -> str:
    """The model that a command asks for; none of them exists."""
    line = command("cost", "--method", "fastv", *words).line
    return line.partition("unknown model '")[2].partition("'")[0]


def test_the_order_is_command_line_environment_file_default(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("cost", "--method", "fastv").code == 0
    settings(tmp_path, 'model = "of-file"\n')
    assert asked(command) == "of-file"
    settings(tmp_path, 'model = "of-file"\n[cost]\nmodel = "of-table"\n[run]\nmodel = "of-run"\n')
    assert asked(command) == "of-table"
    monkeypatch.setenv("TOKENLENS_MODEL", "of-all")
    assert asked(command) == "of-all"
    monkeypatch.setenv("TOKENLENS_COST_MODEL", "of-cost")
    assert asked(command) == "of-cost"
    assert asked(command, "--model", "of-line") == "of-line"
    monkeypatch.setenv("TOKENLENS_COST_MODEL", "")
    monkeypatch.setenv("TOKENLENS_MODEL", "")
    assert asked(command) == "of-table"


def test_the_nearest_file_upwards_is_read(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    settings(tmp_path, '[tool.tokenlens]\nmodel = "outer"\n', "pyproject.toml")
    settings(inner.parent, "[tool.other]\nmodel = 3\n", "pyproject.toml")
    monkeypatch.chdir(inner)
    assert asked(command) == "outer"
    settings(inner.parent, 'model = "../nearer"\n')
    refused(command("cost", "--method", "fastv"), " ../../nearer")
    settings(inner, 'model = "here"\n')
    assert asked(command) == "here"


def test_every_common_option_has_a_command_and_a_place_on_the_page() -> None:
    from tests.support.repository import ROOT

    text = (ROOT / "docs" / "scripts.md").read_text(encoding="utf-8")
    commands = typer.main.get_command(app).commands.values()
    names = [param.name for command in commands for param in command.params]
    for name in COMMON:
        assert names.count(name) >= 2, name
        assert f"`TOKENLENS_{name.upper()}`" in text


def refused(ended: Ended, *words: str) -> None:
    assert ended.code == 2, ended.err
    line = ended.line
    assert len(line) <= MESSAGE_LIMIT
    assert not [sign for sign in line if is_control(sign)], ascii(line)
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = ", ["is not TOML"]),
        ("a = " + "[" * 5000, ["expected"]),
        ("limit = " + "9" * 5000, ["TOML"]),
        ('modle = "x"', ["modle", "unknown key", "did you mean 'model'"]),
        ('"x\\u001b[2J\\u202e" = 3', ["unknown key"]),
        ("[run]\nlimt = 3", ["run", "limt", "unknown key", "'limit'"]),
        ("[run]\nlimit = 0", ["run.limit", "got 0", "an integer from 1 to 1000000"]),
        ("run = 3", ["run", "a table of its options"]),
        ("limit = true", ["limit", "got True", "an integer"]),
        ("limit = 2.0", ["limit", "got 2.0", "an integer"]),
        ('limit = "3"', ["limit", "an integer"]),
        ("batch-size = 1\nbatch_size = 1", ["batch_size", "once"]),
        ("model = 3", ["model", "a text"]),
        ('model = " "', ["model", "a text that is not empty"]),
        ('quiet = "yes"', ["quiet", "true or false"]),
        ('task = "a"', ["task", "a list of texts"]),
        ("task = [1]", ["task", "a list of texts"]),
        ("seed = -1", ["seed", "an integer"]),
        ("[select-layers]\nmerge = nan", ["merge", "a number from 0.0 to 1.0"]),
        ("[select_layers]\nmerge = 2", ["merge", "a number from 0.0 to 1.0"]),
        ('[figures]\nscale = "none"', ["scale", "one of shared, layer"]),
        ('budget = "33%"', ["budget", "select-layers]"]),
    ],
)
@pytest.mark.parametrize("name", ["tokenlens.toml", "pyproject.toml"])
def test_a_bad_file_is_one_line(
    command: Command, tmp_path: Path, text: str, words: list[str], name: str
) -> None:
    if name == "pyproject.toml" and "[" in text and "]\n" in text:
        text = text.replace("[", "[tool.tokenlens.", 1)
    elif name == "pyproject.toml":
        text = f"[tool.tokenlens]\n{text}"
    path = settings(tmp_path, text, name)
    refused(command("models"), str(path), *words)
    assert command("models", "--help").code == 0


@pytest.mark.parametrize("name", ["tokenlens.toml", "pyproject.toml"])
def test_what_is_no_file_is_one_line(command: Command, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir()
    refused(command("models"), str(path), "is no file")
    path.rmdir()
    os.mkfifo(path)
    refused(command("models"), str(path), "is no file")
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    refused(command("models"), str(path), "is no file")
    path.unlink()
    path.write_bytes(b"\xff")
    refused(command("models"), str(path), "UTF-8")
    path.write_bytes(b"#" * 2**21)
    refused(command("models"), str(path), "1 MiB")


def test_a_file_that_cannot_be_read_is_one_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settings(tmp_path, "")
    real = Path.read_text

    def read_text(self: Path, *arguments: object, **how: object) -> str:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", read_text)
    refused(command("models"), str(path), "cannot be read", "Permission denied")


def test_two_files_in_one_folder_and_a_table_that_is_none(command: Command, tmp_path: Path) -> None:
    settings(tmp_path, "[tool]\ntokenlens = 3\n", "pyproject.toml")
    refused(command("models"), "tool.tokenlens", "expected a table")
    settings(tmp_path, "[tool.tokenlens]\n", "pyproject.toml")
    assert command("models").code == 0
    settings(tmp_path, "")
    refused(command("models"), "one of them")


@pytest.mark.parametrize("variable", ["TOKENLENS_LIMIT", "TOKENLENS_PROFILE_LIMIT"])
@pytest.mark.parametrize("value", ["x", "0", "1.5", "9" * 5000, "x\x1b[2J\u202e"])
def test_a_bad_variable_is_named(
    command: Command, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    refused(command("profile"), variable, "--limit")


def test_a_variable_that_sets_nothing_is_named(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENLENS_MODLE", "x")
    monkeypatch.setenv("TOKENLENS_CACHE", "x")
    ended = command("models")
    assert (ended.code, ended.err.count("Warning")) == (0, 1)
    assert "TOKENLENS_MODLE" in ended.err


def test_settings_for_other_commands_refuse_nothing(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model and a limit for all commands: `select-layers` by the profile needs neither."""
    settings(tmp_path, "limit = 8\n[profile]\nout = './p'\n")
    monkeypatch.setenv("TOKENLENS_MODEL", "tiny-qwen2-vl")
    ended = command("profile")
    assert ended.code == 0, ended.err
    assert "8 samples" in ended.out
    assert (tmp_path / "p").is_dir()
    ended = command("select-layers", "p")
    assert ended.code == 0, ended.err
    refused(command("select-layers", "p", "--limit", 3), "--limit")
    dry = command("bench", "--like", "qwen2-vl-2b", "--tokens", 576, "--dry-run")
    assert dry.code == 0, dry.err
    refused(command("bench", "--like", "qwen2-vl-2b", "--tokens", 576, "--model", "x"), "--model")


def test_the_command_line_in_results_contains_the_settings(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenlens.schedule import Schedule

    monkeypatch.setenv("TOKENLENS_LIMIT", "8")
    settings(tmp_path, "quiet = true\n[select-layers]\nstages = 2\n")
    assert command("profile").code == 0
    assert command("select-layers").code == 0
    why = Schedule.load(tmp_path / "out.json").why
    assert why is not None
    assert why.command is not None
    line = " ".join(why.command)
    assert line == "tokenlens select-layers --stages 2 --limit 8"
