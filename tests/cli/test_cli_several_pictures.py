"""One, two and three pictures and a question without any, from a manifest to a report."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ended
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tests.support.several import write_manifest
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.probing.profile import Profile

Command = Callable[..., Ended]


def explored(page: Path) -> dict[str, Any]:
    found = re.search(r'id="explorer-data">(.*?)</script>', page.read_text("utf-8"), re.S)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def whole_road(command: Command, model: str, data: Path) -> None:
    profiled = command("profile", "--model", model, "--data", data, "--out", "profile")
    assert profiled.code == 0, profiled.err
    assert "Profile of" in profiled.out
    assert "on 3 samples" in profiled.out
    assert "the profile leaves out 1 of 4 samples" in profiled.err
    assert [len(row.more_images) for row in Profile("profile").rows()] == [0, 1, 2]
    ended = command("select-layers", "profile", "--stages", 1, "--budget", "80%")
    assert ended.code == 0, ended.err
    assert "1 of 4 samples has no picture, hence no visual tokens, and is left out" in ended.out
    ended = command("run", "--schedule", "out.json", "--max-new-tokens", 4, "--out", "results")
    assert ended.code == 0, ended.err
    assert "1 of 4 samples has no picture: every method answers it unpruned" in ended.out
    for results in Comparison.load("results").arms.values():
        assert [tokens[0] > 0 for tokens in results.rows["tokens_per_layer"]] == [True] * 3 + [
            False
        ]
    ended = command("report", "profile", "results", "--out", "report")
    assert ended.code == 0, ended.err
    page = Path("report/report.html")
    assert [
        one["pictures"] for one in sorted(explored(page)["samples"], key=lambda s: s["id"])
    ] == [
        1,
        2,
        3,
    ]
    for caution in ("hence no visual tokens", "every method answers it unpruned"):
        assert caution in page.read_text("utf-8")


def test_from_a_manifest_to_a_report(command: Command, tmp_path: Path) -> None:
    model = save_model_directory(tmp_path / "model", tiny_qwen2_vl(6))
    (tmp_path / "data").mkdir()
    whole_road(command, str(model), write_manifest(tmp_path / "data"))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny-qwen2-vl", "tiny-llava"])
def test_the_bundled_models(command: Command, tmp_path: Path, model: str) -> None:
    (tmp_path / "data").mkdir()
    data = write_manifest(tmp_path / "data", size=168, patch=(28, 42, 70, 84))
    whole_road(command, model, data)


def test_many_methods_are_compared_on_them(command: Command, tmp_path: Path) -> None:
    model = save_model_directory(tmp_path / "model", tiny_qwen2_vl(6))
    (tmp_path / "data").mkdir()
    data = write_manifest(tmp_path / "data")
    arguments = ("--compare", "fastv,random,downsample", "--budget", "70%", "--out", "results")
    ended = command("run", "--model", model, "--data", data, "--max-new-tokens", 2, *arguments)
    assert ended.code == 0, ended.err
    assert "1 of 4 samples has no picture" in ended.out


def test_a_dry_run_and_a_manifest_of_text_alone(command: Command, tmp_path: Path) -> None:
    model = save_model_directory(tmp_path / "model")
    path = tmp_path / "text.jsonl"
    path.write_text(json.dumps({"id": "t", "question": "what ?"}))
    ended = command("profile", "--model", model, "--data", path)
    assert ended.code == 2
    assert "none of the 1 samples has a picture" in ended.line
    data = write_manifest(tmp_path)
    ended = command("profile", "--model", model, "--data", data, "--dry-run")
    assert "3 samples, 0 of them done" in ended.out
    assert "leaves out 1 of 4" in ended.err
