"""The campaigns in short; the long forms are `python -m tests.campaigns.damage` and the others."""

import subprocess
import sys

import pytest

from tests.campaigns.damage import FAULTS, campaign


@pytest.mark.slow
def test_no_damage_is_silent(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    places = ("runs/profile", "runs/out.json", "tokenlens-out")
    found = campaign(tmp_path / "c", flips=24, seed=1, samples=4, places=places)
    assert [one for one in found if one[1] in FAULTS] == []
    assert {"refused", "mended"} <= {judgement for _, judgement, _ in found}


@pytest.mark.slow
def test_no_kill_loses_rows():
    command = [sys.executable, "-m", "tests.campaigns.kills", "--kills", "4", "--samples", "4"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-500:]


@pytest.mark.slow
def test_workers_choose_the_layers_of_one_process():
    pytest.importorskip("ray")
    words = ["--samples", "4", "--command", "agreement"]
    command = [sys.executable, "-m", "tests.campaigns.worker_rows", *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-500:]
    assert "equal" in ended.stdout
