"""The commands as users chain them, on the bundled model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ended
from tokenlens import __version__
from tokenlens.methods import find_method
from tokenlens.registry import METHODS
from tokenlens.schedule import Schedule

Command = Callable[..., Ended]
COMMANDS = (
    "profile",
    "select-layers",
    "cost",
    "run",
    "report",
    "knock-out",
    "information",
    "tune",
    "show",
    "figures",
    "cite",
    "share",
    "demo",
    "models",
    "methods",
    "bench",
    "benchmarks",
    "env",
)


def test_version(command: Command) -> None:
    ended = command("--version")
    assert (ended.code, ended.out.strip()) == (0, f"tokenlens {__version__}")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(command: Command, name: str) -> None:
    ended = command(name, "--help")
    assert ended.code == 0
    assert f"Example: tokenlens {name}" in ended.out
    assert name in command("--help").out


def test_models_lists_bundled_names_and_aliases(command: Command) -> None:
    ended = command("models")
    assert ended.code == 0
    for word in ("tiny-qwen2-vl", "qwen2-vl-7b", "Qwen/Qwen2-VL-2B-Instruct", "llava-1.5"):
        assert word in ended.out


def test_methods_lists_every_preset_with_its_source(command: Command) -> None:
    ended = command("methods")
    assert ended.code == 0
    words = " ".join(ended.out.split())
    for name in METHODS:
        assert f"\n {name} " in ended.out
        assert find_method(name).summary in words
        assert find_method(name).source in words


def test_env_names_versions(command: Command) -> None:
    ended = command("env")
    assert ended.code == 0
    for word in ("tokenlens:", "torch:", "transformers:", "accelerators:", "hub_cache:"):
        assert word in ended.out


def test_env_tells_extras_and_settings(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    ended = command("env", "--json")
    found = json.loads(ended.out)["results"]
    assert found["omp_num_threads"] == "3"
    assert found["hub_cache"].endswith("hub")
    assert {"optuna", "datasets", "ray", "huggingface_hub"} <= found.keys()
    assert not {"pytest", "mypy"} & found.keys()  # those of development
    assert "hf_secret" not in ended.out


def test_unexpected_errors_show_one_line_and_with_debug_all(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenlens.storage import versions

    def broken() -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(versions, "versions", broken)
    ended = command("env")
    assert ended.code == 1
    assert "unexpected ZeroDivisionError: a defect" in ended.line
    with pytest.raises(ZeroDivisionError):
        command("env", "--debug")


def test_dry_run_writes_nothing(command: Command, tmp_path: Path) -> None:
    ended = command("profile", "--limit", 4, "--dry-run")
    assert ended.code == 0
    assert "4 samples, 0 of them done" in ended.out
    assert not (tmp_path / "tokenlens-out").exists()


def test_the_three_commands_and_the_report_chain_by_their_defaults(
    command: Command, tmp_path: Path
) -> None:
    ended = command("profile", "--limit", 40)
    assert ended.code == 0, ended.err
    assert "Next: tokenlens select-layers" in ended.out

    ended = command("select-layers")
    assert ended.code == 0, ended.err
    assert "◀ chosen" in ended.out
    assert "Next: tokenlens run --schedule out.json" in ended.out
    schedule = Schedule.load(tmp_path / "out.json")
    assert schedule.model.id == "tiny-qwen2-vl"
    assert schedule.why is not None
    assert schedule.why.data == "scenes"

    ended = command("run", "--schedule", "out.json", "--limit", 20)
    assert ended.code == 0, ended.err
    assert "scenes-held-out" in ended.out
    assert "Next: tokenlens report" in ended.out
    model = tmp_path / "tokenlens-out" / "tiny-qwen2-vl"
    summary = json.loads((model / "results-out" / "summary.json").read_text())
    assert list(summary["arms"]) == ["unpruned", "swiftvlm"]

    ended = command("report", "--pictures", 2)
    assert ended.code == 0, ended.err
    assert "swiftvlm" in (model / "report" / "report.html").read_text()


@pytest.mark.slow
def test_demo_ends_with_a_report(command: Command, tmp_path: Path) -> None:
    ended = command("demo", "--limit", 20)
    assert ended.code == 0, ended.err
    assert (tmp_path / "tokenlens-out/demo/report/report.html").stat().st_size > 10_000
    assert ended.out.count("tokenlens select-layers") >= 2


@pytest.mark.parametrize("name", [*COMMANDS, "setup"])
def test_help_fits_into_80_columns(
    command: Command, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = command(name, "--help").out
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text.replace("1, 2, …", "")
    for option in ("--json", "--quiet", "--verbose"):
        assert option in text
    assert "env var" not in text
