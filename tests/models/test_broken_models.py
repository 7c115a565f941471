"""Broken model directories, through the real command: one line, exit code 2, within 10 seconds."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from tests.conftest import Ended
from tests.support.broken_models import BROKEN, NAMED
from tests.support.repository import ROOT

BUNDLED = ROOT / "data" / "tiny-qwen2-vl"
LIMIT_S = 10
SCHEDULE = {
    "schema": 1,
    "method": "drop",
    "model": {"architecture": "Qwen2VLForConditionalGeneration", "layers": 24},
    "stages": [{"score_layer": 3, "when": "after", "keep": 0.5, "disposal": "drop"}],
}
Command = Callable[..., Ended]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole copy of the bundled model, and a schedule for it beside it."""
    (tmp_path / "out.json").write_text(json.dumps(SCHEDULE))
    return Path(shutil.copytree(BUNDLED, tmp_path / "model"))


@pytest.fixture
def limit() -> Iterator[None]:
    """Stop a test that computes for longer than 10 seconds, whatever else the machine does."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        pytest.fail(f"not refused within {LIMIT_S} s of computing")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


def run(command: Command) -> Ended:
    return command("run", "--model", "model", "--limit", 2, "--max-new-tokens", 2)


def test_the_whole_copy_runs(folder: Path, command: Command) -> None:
    ended = run(command)
    assert ended.code == 0, ended.err


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_one_is_refused_in_one_line(
    name: str, folder: Path, command: Command, limit: None
) -> None:
    BROKEN[name](folder)
    ended = run(command)
    assert ended.code == 2, ended.err
    assert len(ended.line) <= 500
    assert "\x1b" not in ended.line
    assert str(folder) in ended.line or "model" in ended.line or "processor" in ended.line
    for word in NAMED.get(name, ()):
        assert word in ended.line
    assert not list(folder.parent.glob("tokenlens-out/*/results-*/*/shard-*"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["profile", "--limit", "2"],
        ["run", "--compare", "fastv", "--limit", "2"],
        ["knock-out", "--limit", "2"],
    ],
    ids=lambda arguments: arguments[0],
)
@pytest.mark.parametrize("name", ["weight infinite", "weights overflow"])
def test_no_command_goes_on_with_what_is_no_number(
    name: str, arguments: list[str], folder: Path, command: Command
) -> None:
    BROKEN[name](folder)
    ended = command(*arguments, "--model", "model")
    assert ended.code == 2, ended.err
    assert "number" in ended.line
    assert not list(folder.parent.glob("tokenlens-out/**/*.parquet"))


def test_cost_needs_no_weights_and_refuses_the_rest(folder: Path, command: Command) -> None:
    BROKEN["weight not a number"](folder)
    (folder / "model.safetensors").unlink()
    ended = command("cost", "--model", "model", "--method", "fastv")
    assert ended.code == 0, ended.err
    BROKEN["layers huge"](folder)
    assert "num_hidden_layers" in command("cost", "--model", "model", "--method", "fastv").line
