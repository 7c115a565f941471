"""POPE: both layouts, and its figures computed by hand."""

import json
from collections.abc import Callable
from math import isnan
from pathlib import Path

import pytest
from PIL import Image

import tokenlens as tl
from tests.conftest import Ended
from tests.support.benchmark_files import pope, pope_hub, pope_lines, write_lines
from tests.support.grading import figures, graded
from tokenlens.errors import SampleError
from tokenlens.schedule import ModelRef, Schedule

QUESTION = "Is there a cup in the image?\nAnswer the question using a single word or phrase."


def said(samples: list[tl.Sample]) -> list[tuple[str, str, tuple[str, ...], str]]:
    return [(one.id, one.question, one.answers, one.task) for one in samples]


def test_published_files(tmp_path: Path) -> None:
    samples = tl.load_samples(f"pope:{pope(tmp_path)}")
    assert [sample.id for sample in samples] == [
        f"{kind}/{number}" for kind in ("random", "popular", "adversarial") for number in (1, 2)
    ]
    first = samples[0]
    assert (first.question, first.answers, first.task) == (QUESTION, ("yes",), "random")
    assert first.image == tmp_path / "val2014" / "a.jpg"
    assert samples.name == "pope-test"
    assert samples.source == f"pope:{tmp_path}"


@pytest.mark.usefixtures("tables")
def test_the_mirror_asks_the_same(tmp_path: Path) -> None:
    files = tl.load_samples(f"pope:{pope(tmp_path / 'files')}")
    mirror = tl.load_samples(f"pope:{pope_hub(tmp_path / 'hub')}", "held-out")
    assert said(list(files)) == said(list(mirror))
    assert [sample.open_image().size for sample in mirror] == [(80, 40)] * 6
    assert not any(isinstance(sample.image, Image.Image) for sample in mirror)  # not opened yet


def test_one_split(tmp_path: Path) -> None:
    samples = tl.load_samples(f"pope/popular:{pope(tmp_path)}")
    assert {sample.task for sample in samples} == {"popular"}
    with pytest.raises(SampleError, match="did you mean 'random'"):
        tl.load_samples(f"pope/randon:{tmp_path}")


def test_golden(tmp_path: Path) -> None:
    """Random: both right. Popular: yes twice, one right. Adversarial: no twice, one right."""
    samples = tl.load_samples(f"pope:{pope(tmp_path)}")
    rows = graded(samples, ["Yes.", "No, there is none.", "yes", "Yes, a person", "no", "not one"])
    assert rows["score"].to_list() == [1, 1, 1, 0, 0, 1]
    found = figures(rows)
    names = ("accuracy", "precision", "recall", "F1", "yes ratio")
    assert found["random"] == pytest.approx(dict(zip(names, (1, 1, 1, 1, 0.5), strict=True)))
    assert found["popular"] == pytest.approx(dict(zip(names, (0.5, 0.5, 1, 2 / 3, 1), strict=True)))
    assert isnan(found["adversarial"].pop("precision"))
    assert found["adversarial"] == {"accuracy": 0.5, "recall": 0, "F1": 0, "yes ratio": 0}
    assert found["macro"]["F1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert found["macro"]["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{nonsense", ["coco_pope_popular.json:2", "not JSON"]),
        ({"label": "maybe"}, ["coco_pope_popular.json:2", "label", "'yes' or 'no'"]),
        ({"image": "lost.jpg"}, ["coco_pope_popular.json:2", "lost.jpg", "no such picture"]),
        ({"question_id": 1}, ["coco_pope_popular.json:2", "popular/1", "already"]),
    ],
    ids=["json", "label", "picture", "id"],
)
def test_a_bad_line_is_named(
    tmp_path: Path, line: str | dict[str, object], words: list[str]
) -> None:
    lines = pope_lines("popular")
    bad = line if isinstance(line, str) else {**lines[1], **line}
    write_lines(pope(tmp_path) / "coco" / "coco_pope_popular.json", [lines[0], bad])
    with pytest.raises(SampleError) as caught:
        tl.load_samples(f"pope:{tmp_path}")
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.usefixtures("tables")
def test_through_the_command_line(command: Callable[..., Ended], tmp_path: Path) -> None:
    model = ModelRef(architecture="Qwen2VLForConditionalGeneration", layers=24)
    schedule = Schedule.preset("drop", model, budget="50%", layers=[3], n_visual=144)
    schedule.save(tmp_path / "out.json")
    ended = command("run", "--data", f"pope:{pope_hub(tmp_path / 'pope')}", "--limit", 3)
    assert ended.code == 0, ended.err
    for word in ("pope-test", "What the benchmark reports", "F1", "yes ratio", "adversarial"):
        assert word in ended.out
    summary = json.loads(next(tmp_path.rglob("summary.json")).read_text())
    assert {row["figure"] for row in summary["figures"]} >= {"F1", "precision"}
    ended = command("report", "--pictures", 1)
    assert ended.code == 0, ended.err
    page = next(tmp_path.rglob("report.html")).read_text()
    assert "yes ratio" in page
    assert "given in memory" not in page
