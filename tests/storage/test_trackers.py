"""What trackers are told of a run, each as its package is called."""

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import Ended
from tests.support.repository import ROOT
from tests.support.trackers import (
    Recorded,
    stand_in_mlflow,
    stand_in_tensorboard,
    stand_in_wandb,
)
from tokenlens.errors import OptionError, TrackerError
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.evaluation.comparing.tracking import track_comparison
from tokenlens.storage import trackers
from tokenlens.storage.trackers import TRACKERS, find_tracker

STORED = ROOT / "tests" / "stored" / "schema-1"


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return Comparison.load(STORED / "results").kept()


@pytest.fixture(scope="module")
def recorded(comparison: Comparison) -> Recorded:
    found = Recorded()
    track_comparison(comparison, found)
    return found


def test_a_comparison_is_its_settings_figures_table_and_schedules(
    comparison: Comparison, recorded: Recorded
) -> None:
    ((directory, settings),) = recorded.begun
    assert directory == comparison.directory
    assert settings["arms"] == ["unpruned", "downsample"]
    assert settings["model"]["id"]
    assert "tokenlens" in settings["versions"]
    json.dumps(settings, allow_nan=False)
    table = comparison.table()
    logged = {name: value for _, figures in recorded.logged for name, value in figures.items()}
    for arm in ("unpruned", "downsample"):
        (row,) = table[(table["task"] == "all") & (table["arm"] == arm)].to_dict("records")
        for name in ("score", "retained", "agreement", "macs", "tokens"):
            assert logged[f"{arm}/{name}"] == row[name]
    ((tables, files),) = recorded.ended
    assert len(tables["table"]) == len(table)
    assert list(files) == ["downsample.json"]
    assert json.loads(files["downsample.json"])["method"] == "downsample"


def test_wandb_is_called_as_its_package_is(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = stand_in_wandb(monkeypatch)
    track_comparison(comparison, find_tracker("wandb"))
    assert [name for name, _ in told] == ["begin", "log", "log", "log", "files", "end"]
    assert told[0][1]["name"] == "results"
    assert told[1][1][0]["unpruned/retained"] == 1.0
    assert len(told[3][1][0]["table"]) == len(comparison.table())
    assert list(told[4][1]) == ["downsample.json"]


def test_mlflow_is_called_as_its_package_is(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = stand_in_mlflow(monkeypatch)
    track_comparison(comparison, find_tracker("mlflow"))
    by_name = dict(told)
    assert by_name["start_run"] == ("results",)
    assert told[-1] == ("end", ())
    (params,) = by_name["log_params"]
    assert all(isinstance(value, str) and len(value) <= 500 for value in params.values())
    assert json.loads(params["arms"]) == ["unpruned", "downsample"]
    assert params["model.id"] == "tiny-qwen2-vl"
    columns, file = by_name["log_table"]
    assert (file, set(map(len, columns.values()))) == ("table.json", {len(comparison.table())})
    assert by_name["log_text"][1] == "downsample.json"


def test_tensorboard_is_called_as_its_writer_is(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = stand_in_tensorboard(monkeypatch)
    track_comparison(comparison, find_tracker("tensorboard"))
    assert told[0] == ("begin", str(STORED / "tensorboard" / "results"))
    assert told[-1] == ("end", None)
    texts = dict(given for name, given in told if name == "text")
    assert list(texts) == ["settings", "table", "downsample.json"]
    assert texts["table"].count("\n") == len(comparison.table()) + 1


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard")
def test_tensorboard_itself_reads_what_was_written(
    comparison: Comparison, recorded: Recorded, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = find_tracker("tensorboard")
    tracker.begin(tmp_path / "run", recorded.begun[0][1])
    for step, figures in recorded.logged:
        tracker.log(figures, step)
    tracker.end(*recorded.ended[0])
    events = EventAccumulator(str(tmp_path / "tensorboard" / "run")).Reload()
    expected = {name: value for _, figures in recorded.logged for name, value in figures.items()}
    assert set(events.Tags()["scalars"]) == set(expected)
    for name, value in expected.items():
        (event,) = events.Scalars(name)
        assert event.value == pytest.approx(value)
    assert len(events.Tags()["tensors"]) == 3


@pytest.mark.parametrize("name", TRACKERS)
def test_without_the_package_it_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(OptionError, match=rf'pip install "tokenlens\[{name}\]"'):
        find_tracker(name)


def test_a_tracker_that_fails_is_one_line(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_wandb(monkeypatch)

    def refuse(**_: object) -> None:
        raise RuntimeError("no API key\nconfigured")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    with pytest.raises(TrackerError, match=r"wandb does not take the run .*no API key configured"):
        track_comparison(comparison, find_tracker("wandb"))


@pytest.mark.parametrize("name", ["wandbb", "x\x1b[2J"])
def test_an_unknown_tracker_is_refused_before_anything_runs(
    command: Callable[..., Ended], name: str
) -> None:
    for words in (["run"], ["tune", "--budget", "33%"]):
        ended = command(*words, "--track", name)
        assert ended.code == 2
        assert "--track: got" in ended.line
        assert "wandb, tensorboard, mlflow" in ended.line
        assert "\x1b" not in ended.err


def test_a_run_is_recorded(
    command: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = stand_in_wandb(monkeypatch)
    how = ("--limit", 2, "--max-new-tokens", 2, "--out", "mine", "--track", "wandb")
    ended = command("run", "--schedule", STORED / "schedule.json", *how)
    assert ended.code == 0, ended.err
    assert "Recorded by wandb." in ended.out
    assert told[0][1]["name"] == "mine"
    assert (tmp_path / "mine" / "references.bib").is_file()
    assert [name for name, _ in told][-2:] == ["files", "end"]
