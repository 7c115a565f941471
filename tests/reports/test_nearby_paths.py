"""Paths on a page hold no home folder where they can be told without it."""

from pathlib import Path

import pytest

from tokenlens.reports.nearby import from_here, near


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home" / "user"
    (folder / "work").mkdir(parents=True)
    monkeypatch.setattr(Path, "home", classmethod(lambda _: folder))
    monkeypatch.chdir(folder / "work")
    return folder


def test_a_sentence_and_a_file_hold_no_home(home):
    assert near(f'"data": "{home}/work/a.jsonl"') == '"data": "a.jsonl"'
    assert near(f"pope:{home}/coco and {home}/x") == "pope:~/coco and ~/x"
    assert near("/data/x") == "/data/x"
    assert near(f"/other{home}/x") == f"/other{home}/x"


def test_a_word_of_a_command_is_found_from_here(home):
    assert from_here(f"{home}/work/a b.jsonl") == "a b.jsonl"
    assert from_here(f"{home}/data/a.jsonl") == "../data/a.jsonl"
    assert from_here(f"--data=pope:{home}/coco") == "--data=pope:../coco"
    assert from_here("/data/x") == "/data/x"
    assert from_here("--limit") == "--limit"
