"""Every reader over a copy of its mirror as its card describes it, and published files as they
unpack."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import tokenlens as tl
from tests.conftest import Ended
from tests.support.benchmark_files import picture, pope_lines, write, write_lines
from tests.support.hub_copies import COPIES
from tokenlens.errors import SampleError, SplitWarning
from tokenlens.samples.benchmarks import BENCHMARKS, Address, find_benchmark

READ = {
    "refcoco": ("val", 2, "testA+testB", 8),
    "refcoco+": ("val", 2, "testA+testB", 8),
    "refcocog": ("val", 2, "test", 4),
    "coco": ("train", 1, "val", 1),
    "textvqa": ("train", 1, "validation", 1),
    "vqav2": ("validation", 1, "validation", 1),
    "gqa": ("val", 1, "testdev", 1),
    "scienceqa": ("validation", 1, "test", 2),
    "mme": ("test", 2, "test", 2),
    "mmbench": ("dev", 2, "dev", 2),
    "pope": ("test", 6, "test", 6),
}
"""Which split is read for either use, and how many samples it gives."""
LEFT_OUT = {"refcoco": (2, 4), "refcoco+": (2, 4), "refcocog": (2, 4), "scienceqa": (1, 2)}
"""Samples of the first split whose picture is in the second as well, and of how many."""
pytestmark = pytest.mark.usefixtures("tables")


def test_every_benchmark_has_a_copy() -> None:
    assert set(COPIES) == set(READ) == set(BENCHMARKS)


@pytest.mark.parametrize("name", COPIES)
def test_every_reader_reads_its_mirror(tmp_path: Path, name: str) -> None:
    data = f"{name}:{COPIES[name](tmp_path)}"
    calibration, chosen, held_out, judged = READ[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first = tl.load_samples(data, "calibration")
    second = tl.load_samples(data, "held-out")
    assert (first.split, len(first)) == (calibration, chosen)
    assert (second.split, len(second)) == (held_out, judged)
    for sample in (*first, *second):
        assert sample.open_image().size == (60, 40)
        assert sample.answers or sample.boxes
    said = [str(one.message) for one in caught if one.category is SplitWarning]
    counts = [f"{name}: {a} of the {b} samples" for a, b in [LEFT_OUT.get(name, (0, 0))] if a]
    assert [line for line in said if "left out" in line] == [
        line for line in said if any(line.startswith(count) for count in counts)
    ]
    assert sum("left out" in line for line in said) == len(counts)
    assert all(line.isprintable() for line in said)


@pytest.mark.parametrize("name", ["refcoco", "refcocog"])
def test_a_split_that_is_not_the_published_one_says_so(tmp_path: Path, name: str) -> None:
    with pytest.warns(SplitWarning, match=f"{name}: the mirror's val has"):
        tl.load_samples(f"{name}:{COPIES[name](tmp_path)}", "calibration")


def test_nothing_left_to_choose_on_is_said(tmp_path: Path) -> None:
    row = {"id": "p", "imageId": "n1", "question": "what?", "answer": "x"}
    for split in ("val", "testdev"):
        write(tmp_path / f"{split}_balanced_questions.json", {f"{split}1": row})
    picture(tmp_path / "images" / "n1.jpg")
    with pytest.warns(SplitWarning, match="every picture of val is in testdev as well"):
        assert len(tl.load_samples(f"gqa:{tmp_path}", "calibration")) == 1
    assert len(tl.load_samples(f"gqa/val:{tmp_path}", "calibration")) == 1


def test_both_homes_of_the_mirrors_are_named(command: Callable[..., Ended]) -> None:
    ended = command("benchmarks")
    assert "lmms-lab/RefCOCO or lmms-lab-encoder/RefCOCO" in " ".join(ended.out.split())
    assert find_benchmark("coco").hub_ids == ("detection-datasets/coco",)
    address = Address.of("pope:lmms-lab-encoder/POPE")
    assert address is not None
    assert address.place == "lmms-lab-encoder/POPE"


MME = "Is it? Please answer yes or no.\tYes\nIs it not? Please answer yes or no.\tNo\n"


@pytest.mark.parametrize("below", ["", "MME_Benchmark", "MME_Benchmark_release_version"])
def test_mme_as_its_archive_unpacks(tmp_path: Path, below: str) -> None:
    top = tmp_path / "MME_Benchmark_release_version" / "MME_Benchmark"
    for folder, texts in (("existence", "."), ("artwork", "questions_answers_YN")):
        pictures = "." if texts == "." else "images"
        picture(top / folder / pictures / "1.jpg")
        (top / folder / texts).mkdir(exist_ok=True)
        (top / folder / texts / "1.txt").write_text(MME, encoding="utf-8")
    place = {"": tmp_path, "MME_Benchmark": top, "MME_Benchmark_release_version": top.parent}[below]
    samples = tl.load_samples(f"mme:{place}")
    assert [sample.task for sample in samples] == ["existence"] * 2 + ["artwork"] * 2
    assert len(tl.load_samples(f"mme/artwork:{place}")) == 2
    with pytest.raises(SampleError, match="no subtask OCR"):
        tl.load_samples(f"mme/OCR:{place}")


def test_scienceqa_pictures_lie_by_split(tmp_path: Path) -> None:
    problem = {"question": "Which?", "choices": ["a", "b"], "answer": 1, "image": "image.png"}
    for number, split in enumerate(("train", "val", "test"), start=1):
        picture(tmp_path / "images" / split / str(number) / "image.png", (10 * number, 9))
    write(tmp_path / "problems.json", {str(n): {**problem, "hint": ""} for n in (1, 2, 3)})
    splits = {"train": ["1"], "val": ["2"], "test": ["3"], "trainval": ["1", "2"]}
    splits |= {"minitrain": ["1"], "minival": ["2"], "minitest": ["3"]}
    write(tmp_path / "pid_splits.json", splits)
    for split, ids in splits.items():
        samples = tl.load_samples(f"scienceqa/{split}:{tmp_path}")
        assert [sample.open_image().width // 10 for sample in samples] == [int(n) for n in ids]


def test_popes_json_arrays(tmp_path: Path) -> None:
    for folder in ("aokvqa", "gqa"):
        for kind in ("random", "popular", "adversarial"):
            path = tmp_path / "output" / "seem" / folder / f"{folder}_pope_seem_{kind}.json"
            write(path, pope_lines(kind))
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / "output" / "seem" / "val2014" / name)
    one = tl.load_samples(f"pope:{tmp_path / 'output' / 'seem' / 'gqa'}")
    assert [sample.id for sample in one][:2] == ["random/1", "random/2"]
    assert len(one) == 6
    with pytest.raises(SampleError, match="of 2 sets of pictures; name the folder of one"):
        tl.load_samples(f"pope:{tmp_path}")
    path = tmp_path / "output" / "seem" / "gqa" / "gqa_pope_seem_popular.json"
    write(path, [pope_lines("popular")[0], {"label": "maybe"}])
    with pytest.raises(SampleError, match=r"gqa_pope_seem_popular.json: \[1\]: "):
        tl.load_samples(f"pope:{path.parent}")
    write_lines(path, pope_lines("popular"))  # a value a line reads the same
    assert len(tl.load_samples(f"pope:{path.parent}")) == 6
