"""The commands of the ablation and of merged tokens' offsets, from data to printed tables."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.analyses.studies import ablation, merged_offset, needed_tokens


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """A model directory and data with both splits, as the commands' options."""
    folder = tmp_path_factory.mktemp("data")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    rows = [
        {
            "id": str(index),
            "image": "picture.png",
            "question": f"where is the {colour} circle ?",
            "answer": "1",
            "task": "text",
            "boxes": [[4 * index, 0, 4 * index + 8, 12]],
        }
        for index, colour in enumerate(("red", "green", "blue"))
    ]
    for split in ("calibration", "held-out"):
        lines = "\n".join(map(json.dumps, rows))
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    model = save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(12))
    return ["--model", str(model), "--data", str(folder), "--stages", "2", "--budget", "60%"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_ablation_prints_both_tables(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ablation", *arguments])
    ablation.main()
    printed = capsys.readouterr().out
    for words in ablation.STEPS.values():
        assert words in printed
    assert "step, against the row before" in printed


def test_the_parts_of_the_preset_are_added_in_turn(arguments, monkeypatch, capsys):
    given = [*arguments[:-1], "60% MACs"]
    monkeypatch.setattr("sys.argv", ["needed_tokens", *given])
    for _ in range(2):  # the second time by the information profile of the first
        needed_tokens.main()
        printed = capsys.readouterr().out
        for words in needed_tokens.STEPS.values():
            assert words in printed
        assert "60 % MACs" in printed


def test_merged_offset_prints_its_table_and_draws_its_figure(
    arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("sys.argv", ["offset", *arguments, "--figure", "spread.svg"])
    merged_offset.main()
    printed = capsys.readouterr().out
    assert "60 %, layers" in printed
    assert all(words in printed for words in merged_offset.MEASURES.values())
    assert (tmp_path / "spread.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize("module", [ablation, merged_offset, needed_tokens])
def test_a_budget_out_of_reach_is_one_line(arguments, module, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["command", *arguments[:-1], "1%"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 2
    assert "out of reach" in capsys.readouterr().err
