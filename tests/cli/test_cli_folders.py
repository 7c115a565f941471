"""Folders that hold another run or cannot be written, and runs that are interrupted."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cli_bad_input import SCHEDULE, Command, changed, manifest, refused
from tokenlens.probing.profile import Profile


def test_folder_of_another_run_is_refused_and_the_same_run_continues(
    command: Command, tmp_path: Path
) -> None:
    first = manifest(tmp_path, [{}, {}])
    second = manifest(tmp_path, [{}, {"question": "what shape is this ?"}], "other.jsonl")
    assert command("profile", "--data", first, "--out", "profile").code == 0
    before = (tmp_path / "profile" / "shard-00000.parquet").read_bytes()
    refused(command("profile", "--data", second, "--out", "profile"), "another profile", "data")
    assert command("profile", "--data", first, "--out", "profile").code == 0
    assert (tmp_path / "profile" / "shard-00000.parquet").read_bytes() == before


def test_results_folder_of_another_run_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text(json.dumps(SCHEDULE))
    (tmp_path / "two.json").write_text(json.dumps(changed("stages.1.keep", 12)))
    assert command("run", "--limit", 2, "--out", "results").code == 0
    refused(command("run", "--limit", 2, "--out", "results", "--schedule", "two.json"), "another")
    assert command("run", "--limit", 2, "--out", "results").code == 0


def test_unwritable_folder(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    data = manifest(tmp_path, [{}])
    refused(command("profile", "--data", data, "--out", "file/profile"), "file")
    refused(command("profile", "--data", data, "--out", "file"), "file")


def test_full_disk_during_a_shard(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    data = manifest(tmp_path, [{}, {}, {}])
    whole = pq.write_table

    def no_space(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", no_space)
    refused(command("profile", "--data", data, "--out", "profile"), "No space left")
    assert not list((tmp_path / "profile").glob("*.parquet"))
    assert not list((tmp_path / "profile").glob("*.tmp"))
    monkeypatch.setattr(pq, "write_table", whole)
    assert command("profile", "--data", data, "--out", "profile").code == 0


def test_interrupted_run_ends_cleanly_and_continues(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenlens.samples.sample import Sample

    data = manifest(tmp_path, [{}, {}, {}])
    whole = Sample.open_image
    opened: list[str] = []

    def interrupted(sample: Sample) -> Any:
        opened.append(sample.id)
        if len(opened) == 3:
            raise KeyboardInterrupt
        return whole(sample)

    monkeypatch.setattr(Sample, "open_image", interrupted)
    arguments = ("profile", "--data", data, "--out", "profile", "--batch-size", 1)
    ended = command(*arguments)
    assert ended.code == 130
    assert "the same command continues" in ended.line
    monkeypatch.setattr(Sample, "open_image", whole)
    assert command(*arguments).code == 0
    assert len(Profile(tmp_path / "profile")) == 3


@pytest.mark.parametrize("end", [SystemExit(143), SystemExit(129), KeyboardInterrupt()])
def test_a_signal_that_meets_a_command_where_it_is_wrapped(
    command: Command, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    """Python 3.11 raises RuntimeError of what ends a process while a class sets its names."""
    from tokenlens.samples.sample import Sample

    def wrapped(sample: Sample) -> Any:
        raise RuntimeError("Error calling __set_name__ on 'Field' instance 'notes'") from end

    monkeypatch.setattr(Sample, "open_image", wrapped)
    ended = command("profile", "--limit", 2)
    assert ended.code == (end.code if isinstance(end, SystemExit) else 130)
    assert "the same command continues" in ended.line
