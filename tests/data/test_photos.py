"""The bundled photographs: licences, sizes, boxes, and the ways to name them."""

import re
import tomllib
from collections import Counter
from math import isnan
from pathlib import Path

import pytest
from PIL import Image

import tokenlens as tl
from tests.support.repository import ROOT
from tokenlens.errors import SampleError
from tokenlens.evaluation.metrics.sample_metrics import score
from tokenlens.samples import manifest
from tokenlens.samples.bundled import PHOTOS, bundled_folder
from tokenlens.samples.photos import find_photos

FOLDER = bundled_folder(PHOTOS)
NAMES = sorted(path.stem for path in FOLDER.glob("*.jpg"))
SAMPLES = manifest.read_manifest(FOLDER / "manifest.jsonl")


def test_every_photograph_has_a_licence_an_author_and_a_package() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert [row[0].strip("`") for row in rows] == NAMES
    assert f"{len(NAMES)} photographs" in text
    assert f"{len(SAMPLES)} in all" in text
    for _name, shows, author, licence, _source, package, file in rows:
        assert licence in {"public domain", "CC0"}
        assert shows
        assert author.strip()
        assert re.fullmatch(r"\S+ \S+ \((PyPI|npm|Debian)\)", package)
        assert file


def test_they_are_small() -> None:
    files = list(FOLDER.iterdir())
    assert sum(path.stat().st_size for path in files) <= 3_000_000
    assert {path.suffix for path in files} == {".jpg", ".jsonl", ".md"}
    for name in NAMES:
        with Image.open(FOLDER / f"{name}.jpg") as picture:
            assert (picture.format, max(picture.size) <= 640) == ("JPEG", True), name
            assert not picture.getexif()


def test_each_is_asked_about_and_each_box_is_a_part_of_its_photograph() -> None:
    assert len(NAMES) >= 40
    asked = Counter(Path(str(sample.image)).stem for sample in SAMPLES)
    assert sorted(asked) == NAMES
    assert set(asked.values()) <= {1, 2, 3}
    for sample in SAMPLES:
        width, height = sample.open_image().size
        if sample.task == "localisation":
            assert len(sample.boxes) == 1, sample.id
        assert bool(sample.answers) == (sample.task != "localisation")
        for x0, y0, x1, y1 in sample.boxes:
            assert 0 <= x0 < x1 <= width, sample.id
            assert 0 <= y0 < y1 <= height, sample.id
            assert (x1 - x0) * (y1 - y0) < 0.95 * width * height, sample.id
        if sample.task == "count" and sample.boxes:
            assert str(len(sample.boxes)) in sample.answers


def test_nothing_of_them_is_scored() -> None:
    for sample in SAMPLES:
        right = sample.answers[0] if sample.answers else "(0,0),(1000,1000)"
        assert isnan(score(right, sample, (100, 100)))


def test_they_load_by_their_name_without_splits() -> None:
    samples = tl.load_samples("photos")
    assert (samples.source, samples.name, samples.split) == ("photos", "photos", None)
    assert len(samples) == len(SAMPLES)
    assert samples.hash == tl.load_samples("photos", "held-out").hash


def test_they_are_in_the_wheel() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "photos/*" in tools["package-data"]["tokenlens.data"]


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (["photos/dog"], ["dog.jpg"]),
        (["photos/dog.jpg", "photos/dog"], ["dog.jpg"]),
        (["photos/m*o*"], [f"{name}.jpg" for name in NAMES if re.match("m.*o", name)]),
        (["photos"], [f"{name}.jpg" for name in NAMES]),
    ],
)
def test_names_and_patterns(
    named: list[str], found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [path.name for path in find_photos(named)] == found


def test_an_unknown_name_and_an_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SampleError, match=r"'photos/dgo': no such photograph.*mean 'dog'"):
        find_photos(["photos/dgo"])
    with pytest.raises(SampleError, match="no pictures there"):
        find_photos(["photos/*.gif"])
    (tmp_path / "photos").mkdir()
    with pytest.raises(SampleError, match="no such picture"):
        find_photos(["photos/dog"])
    Image.new("RGB", (9, 9)).save("photos/mine.png")
    assert find_photos(["photos"]) == [Path("photos/mine.png")]
