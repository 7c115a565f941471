"""`select-layers --criterion capability` as users run it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tokenlens as tl
from tests.conftest import Ended
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.errors import ModelError
from tokenlens.schedule import Schedule
from tokenlens.storage.output_paths import find_runs

Command = Callable[..., Ended]
LAYERS, SAMPLES = 5, 4


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory, and a manifest of questions that it answers right."""
    folder = tmp_path_factory.mktemp("made")
    vlm = tl.load(str(save_model_directory(folder / "model", tiny_qwen2_vl(LAYERS))))
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for index in range(SAMPLES):
        picture = f"{index}.png"
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / picture)
        row = {"id": str(index), "image": picture, "question": f"how many are {index} ?"}
        sample = tl.Sample(id=row["id"], image=folder / picture, question=row["question"])
        answer = tl.evaluate(vlm, [sample]).rows["prediction"].item()
        rows.append({**row, "answer": answer, "boxes": [[0, 0, 8, 8]]})
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


@pytest.fixture
def profiled(made: Path, command: Command, tmp_path: Path) -> Path:
    """A copy of both in the directory the commands run in, with its profile."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    assert command("profile", "--model", "./model", "--data", "data.jsonl").code == 0
    return tmp_path / "tokenlens-out" / "model"


CHOOSE = ("select-layers", "--criterion", "capability", "--budget", "70%", "--stages", 1)


def refused(ended: Ended, *words: str) -> None:
    """One line, exit code 2, and the words that help."""
    assert ended.code == 2, ended.err
    for word in words:
        assert word in ended.line


def test_the_estimate_comes_first(
    command: Command, profiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenlens.evaluation import capability

    whole = capability.measure

    def stopped(vlm: Any, samples: Any, out: Path, **options: Any) -> Any:
        if out == Path("tokenlens-out/model/capability-data-4/answers"):
            raise KeyboardInterrupt
        return whole(vlm, samples, out, **options)  # the estimate's own first batch

    monkeypatch.setattr(capability, "measure", stopped)
    ended = command(*CHOOSE)
    assert ended.code == 130
    assert "6 runs (unpruned, then the choice of each of 5 layers) over 4 samples" in ended.out
    assert "24 answers, 0 of them there" in ended.out
    assert "times the profile's one pass" in ended.out
    assert re.search(r"the first 4 samples the rest takes about \d+ (s|min)\.", ended.out)
    assert not (profiled / "capability-data-4").exists()


def test_a_dry_run_only_estimates(command: Command, profiled: Path, tmp_path: Path) -> None:
    ended = command(*CHOOSE, "--dry-run")
    assert ended.code == 0, ended.err
    assert "24 answers" in ended.out
    assert not (tmp_path / "out.json").exists()
    assert not (profiled / "capability-data-4").exists()


def test_a_finished_run_needs_no_model(
    command: Command, profiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = command(*CHOOSE)
    assert ended.code == 0, ended.err
    assert "by capability" in ended.out
    assert "◀ chosen" in ended.out
    first = Schedule.load(tmp_path / "out.json")
    assert first.why is not None
    assert (first.why.criterion, len(first.why.scores)) == ("capability", LAYERS)
    assert first.why.data == str(tmp_path / "data.jsonl")
    assert find_runs(()).results is None  # a report is of what `run` wrote, not of these

    def absent(*_: Any, **__: Any) -> Any:
        raise ModelError("the model is not looked for")

    monkeypatch.setattr("tokenlens.models.loading.load", absent)
    ended = command(*CHOOSE)
    assert ended.code == 0, ended.err
    assert Schedule.load(tmp_path / "out.json") == first
    assert "nothing is left to run" in command(*CHOOSE, "--dry-run").out
    refused(command(*CHOOSE, "--limit", 2), "cannot be loaded", "not looked for")  # the control


def test_fewer_samples_have_rows_of_their_own(command: Command, profiled: Path) -> None:
    ended = command(*CHOOSE, "--limit", 2, "--batch-size", 1)
    assert ended.code == 0, ended.err
    assert "over 2 samples" in ended.out
    assert (profiled / "capability-data-2" / "answers" / "layer-5" / "manifest.json").exists()


def test_what_is_wrong_is_said_in_one_line(
    command: Command, profiled: Path, tmp_path: Path
) -> None:
    refused(
        command("select-layers", "--criterion", "capabilty"),
        *("region", "average-precision", "mass", "pointing"),
        "did you mean 'capability'",
    )
    refused(command("select-layers", "--limit", 2), "--limit", "'region'")
    refused(command("select-layers", "--device-map", "auto"), "--device-map", "'region'")
    refused(command(*CHOOSE, "--model", "tiny-llava"), "another model than tiny-llava")
    refused(command(*CHOOSE, "--data", "nowhere.jsonl"), "nowhere.jsonl")
    data = tmp_path / "data.jsonl"
    text = data.read_text()
    data.write_text(text.replace("how many are 1", "where is 1"))
    refused(command(*CHOOSE), "data.jsonl", "not those that were profiled", "--data")
    data.rename(tmp_path / "moved.jsonl")
    refused(command(*CHOOSE), "data.jsonl", "cannot be read again", "--data")
    (tmp_path / "moved.jsonl").rename(data)
    data.write_text(text)
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    refused(command(*CHOOSE), "profile-data", "cannot be loaded", "model")
    assert not (tmp_path / "out.json").exists()
    assert command(*CHOOSE, "--model", "./elsewhere").code == 0
