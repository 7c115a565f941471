"""A family without an adapter: everything works that needs no boxes, the rest refuses clearly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.models import layout
from tokenlens.probing.profile import Profile

Command = Callable[..., Any]


@pytest.fixture
def unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A model whose family has lost its adapter, and data with regions."""
    monkeypatch.setattr(layout, "find_adapter", lambda config: None)
    model = save_model_directory(tmp_path / "model", tiny_qwen2_vl(layers=4))
    lines = []
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        lines.append(
            {
                "id": str(index),
                "image": f"{index}.png",
                "question": "where is the red circle ?",
                "answer": "A",
                "task": "count",
                "boxes": [[0, 0, 12, 12]],
            }
        )
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return model, data


def test_profile_run_and_report_work_and_region_criteria_refuse(
    unknown: tuple[Path, Path], command: Command, tmp_path: Path
) -> None:
    model, data = unknown
    ended = command("profile", "--model", model, "--data", data, "--out", "p")
    assert ended.code == 0, ended.err
    assert ended.err.count("Warning: model type 'qwen2_vl' has no adapter") == 1
    (row, *_) = Profile(tmp_path / "p").rows()
    assert np.isnan(row.boxes).all()
    assert not row.region.any()
    assert (row.importance > 0).all()

    refused = command("select-layers", "p", "--stages", 1)
    assert refused.code == 2
    assert "what the visual tokens of this profile cover is not known" in refused.line

    schedule = {
        "schema": 1,
        "method": "mine",
        "model": {
            "id": None,
            "revision": None,
            "architecture": "Qwen2VLForConditionalGeneration",
            "layers": 4,
        },
        "stages": [{"score_layer": 2, "when": "after", "keep": 0.5, "disposal": "drop"}],
    }
    (tmp_path / "mine.json").write_text(json.dumps(schedule), encoding="utf-8")
    ran = command(
        "run", "--schedule", "mine.json", "--model", model, "--data", data, "--out", "r",
        "--max-new-tokens", 2,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    shown = command("report", "p", "r", "--schedule", "mine.json", "--out", "page")
    assert shown.code == 0, shown.err
    html = next((tmp_path / "page").glob("*.html")).read_text(encoding="utf-8")
    assert html.count("has no adapter, so it is not known what its visual tokens cover") == 2
