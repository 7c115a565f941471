"""Every picture of a sample has a bright patch, and a box: they stay together up to the report."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Ended
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tests.support.several import bright_tokens, write_bright
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.models.loading import load
from tokenlens.probing.profile import Profile
from tokenlens.probing.stored_rows import stored_region
from tokenlens.samples.dataset import load_samples

Command = Callable[..., Ended]
COUNTS = {"s1": 1, "s2": 2, "s3": 3}


def travel(command: Command, tmp_path: Path, owners: tuple[int, ...]) -> None:
    """Profile → select-layers → run → report, in `tmp_path`."""
    save_model_directory(tmp_path / "model", tiny_qwen2_vl(6))
    (tmp_path / "data").mkdir()
    data = write_bright(tmp_path / "data", owners)
    for arguments in (
        ("profile", "--model", "model", "--data", data, "--out", "profile"),
        ("select-layers", "profile", "--stages", 1, "--budget", "80%"),
        ("run", "--schedule", "out.json", "--max-new-tokens", 2, "--out", "results"),
        ("report", "profile", "results", "--out", "report"),
    ):
        ended = command(*arguments)
        assert ended.code == 0, ended.err


def explored(page: Path) -> list[dict[str, Any]]:
    """The samples of the report's explorer, in the order of their names."""
    found = re.search(r'id="explorer-data">(.*?)</script>', page.read_text("utf-8"), re.S)
    assert found
    return sorted(json.loads(found[1])["samples"], key=lambda one: str(one["id"]))


def outlined(sample: dict[str, Any]) -> list[float]:
    """How bright the shown sheet is in the middle of each outline, from 0 to 1."""
    encoded = re.sub(r"^data:[^,]*,", "", sample["photo"])
    sheet = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("L")
    scale = np.array(sheet.size) / (sample["width"], sample["height"])
    corners = [
        np.array([point.split(",") for point in outline.split()], dtype=float)
        for outline in sample["regions"]
    ]
    middles = [(one.mean(axis=0) * scale).astype(int).tolist() for one in corners]
    return [np.asarray(sheet)[y, x] / 255 for x, y in middles]


def test_boxes_stay_on_their_pictures(command: Command, tmp_path: Path) -> None:
    travel(command, tmp_path, (0, 1, 2))
    vlm, samples = load("model"), load_samples(tmp_path / "data" / "manifest.jsonl")
    bright = {one.id: bright_tokens(vlm, one) for one in samples if one.pictures}
    assert {name: region.sum() for name, region in bright.items()} == {
        name: 4 * count for name, count in COUNTS.items()
    }
    profiled = list(Profile("profile").rows())
    assert [row.id for row in profiled] == list(COUNTS)
    for row in profiled:
        np.testing.assert_array_equal(row.region, bright[row.id])
    for arm in Comparison.load("results").arms.values():
        for _, answered in arm.rows.iterrows():
            region = stored_region(answered)
            np.testing.assert_array_equal(region, bright.get(answered["id"], region[:0]))
    shown = explored(Path("report/report.html"))
    assert {one["id"]: one["pictures"] for one in shown} == COUNTS
    for one in shown:
        for place in one["places"]:
            assert place["region"] == np.flatnonzero(bright[one["id"]]).tolist()
        assert len(outlined(one)) == COUNTS[one["id"]]
        assert min(outlined(one)) > 0.8


@pytest.mark.parametrize("owners", [(0, 0, 2), (0, 1, 1)])
def test_control_a_box_of_another_picture_is_found_out(
    command: Command, tmp_path: Path, owners: tuple[int, ...]
) -> None:
    travel(command, tmp_path, owners)
    vlm, samples = load("model"), load_samples(tmp_path / "data" / "manifest.jsonl")
    bright = {one.id: bright_tokens(vlm, one) for one in samples if one.pictures}
    assert any((row.region != bright[row.id]).any() for row in Profile("profile").rows())
    assert min(min(outlined(one)) for one in explored(Path("report/report.html"))) < 0.2
