"""ScienceQA, MMBench, MME and COCO boxes: both layouts, and scores computed by hand."""

import base64
from pathlib import Path
from typing import Any

import datasets
import pytest
from pyarrow import parquet

import tokenlens as tl
from tests.support.benchmark_files import INSTANCES, SIZE, hub, picture, write
from tests.support.grading import figures, graded
from tokenlens.errors import SampleError
from tokenlens.samples.benchmarks.stored import find_picture
from tokenlens.samples.pictures import StoredPicture, open_picture

LETTER = "\nAnswer with the option's letter from the given choices directly."


def problem(**changes: Any) -> dict[str, Any]:
    return {
        "question": "Which state?",
        "choices": ["Ohio", "Iowa", "Utah"],
        "answer": 1,
        "hint": "Look north.",
        "image": "image.png",
        "split": "test",
        **changes,
    }


def scienceqa(folder: Path, *problems: dict[str, Any]) -> Path:
    names = [str(number) for number in range(1, len(problems) + 1)]
    for name in names:
        picture(folder / "images" / "test" / name / "image.png")
    write(folder / "problems.json", dict(zip(names, problems, strict=True)))
    write(folder / "pid_splits.json", {"test": names, "minitest": names[:1]})
    return folder


def test_scienceqa_golden(tmp_path: Path) -> None:
    folder = scienceqa(tmp_path, *[problem()] * 4, problem(image=None))
    samples = tl.load_samples(f"scienceqa:{folder}", "held-out")
    assert samples[0].question == (
        "Context: Look north.\nWhich state?\nA. Ohio\nB. Iowa\nC. Utah" + LETTER
    )
    assert len(samples) == 4  # the fifth has no picture
    rows = graded(samples, ["B", "The answer is B.", "iowa.", "A. Ohio"])
    assert rows["score"].to_list() == [1, 1, 1, 0]
    assert len(tl.load_samples(f"scienceqa/minitest:{folder}")) == 1


@pytest.mark.usefixtures("tables")
def test_scienceqa_mirror(tmp_path: Path) -> None:
    row = {key: problem()[key] for key in ("question", "choices", "answer", "hint")}
    folder = hub(tmp_path, {"test": [{**row, "image": SIZE}]}, "ScienceQA-IMG")
    (sample,) = tl.load_samples(f"scienceqa:{folder}", "held-out")
    assert sample.answers == ("B", "Iowa")


@pytest.mark.parametrize("answer", [3, -1, "B"])
def test_a_bad_problem_is_named(tmp_path: Path, answer: object) -> None:
    folder = scienceqa(tmp_path, problem(), problem(answer=answer))
    with pytest.raises(SampleError, match=r"problems.json: 2: answer: got"):
        tl.load_samples(f"scienceqa:{folder}", "held-out")


HEAD = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image"]
HEAD += ["source", "l2-category", "comment", "split"]


def mmbench_cells(index: int, options: list[str], answer: str, image: str) -> list[str]:
    cells = [str(index), '"Which\none?"', "", *options, answer, "spatial", image]
    return [*cells, "web", "perception", "", "dev"]


def mmbench(folder: Path, rows: list[list[str]], name: str = "MMBench_DEV_EN.tsv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join("\t".join(cells) for cells in [HEAD, *rows]) + "\n"
    (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def encoded(tmp_path: Path) -> str:
    return base64.b64encode(picture(tmp_path / "one.png").read_bytes()).decode()


def test_mmbench_golden(tmp_path: Path, encoded: str) -> None:
    """Two questions of two orders: one right in both, one in one, so 1 of 2 and not 3 of 4."""
    rows = [
        mmbench_cells(241, ["cat", "dog", "nan", ""], "B", encoded),
        mmbench_cells(252, ["cup", "fork", "", ""], "A", encoded),
        mmbench_cells(1_000_241, ["dog", "cat", "", ""], "A", "241"),
        mmbench_cells(1_000_252, ["fork", "cup", "", ""], "B", "252"),
    ]
    samples = tl.load_samples(f"mmbench:{mmbench(tmp_path / 'data', rows)}")
    assert [sample.id for sample in samples] == ["241", "252", "1000241", "1000252"]
    assert samples[0].question == "Which\none?\nA. cat\nB. dog" + LETTER
    assert samples[2].open_image().size == SIZE
    graded_rows = graded(samples, ["B", "A", "A", "A"])
    assert graded_rows["score"].to_list() == [1, 1, 1, 0]
    assert figures(graded_rows) == {
        "perception": {"circular accuracy": 0.5},
        "all": {"circular accuracy": 0.5},
    }


def test_mmbench_makes_the_orders_that_a_file_leaves_out(tmp_path: Path, encoded: str) -> None:
    rows = [mmbench_cells(241, ["cat", "dog", "cow", ""], "B", encoded)]
    samples = tl.load_samples(f"mmbench:{mmbench(tmp_path / 'data', rows)}")
    assert [sample.answers for sample in samples] == [("B", "dog"), ("C", "dog"), ("A", "dog")]
    assert "A. dog\nB. cow\nC. cat" in samples[2].question
    assert len({sample.id for sample in samples}) == 3
    assert {sample.group for sample in samples} == {"241"}


def test_a_group_is_taken_whole_or_not_at_all(tmp_path: Path, encoded: str) -> None:
    rows = [mmbench_cells(n, ["cat", "dog", "cow", ""], "B", encoded) for n in (241, 252)]
    data = f"mmbench:{mmbench(tmp_path / 'data', rows)}"
    assert [sample.group for sample in tl.load_samples(data, limit=5)] == ["241"] * 3
    with pytest.raises(SampleError, match="limit must be at least 3 here, got 2"):
        tl.load_samples(data, limit=2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda cells: cells.pop(), ["13 cells, expected 14"]),
        (lambda cells: cells.__setitem__(7, "D"), ["answer: got 'D' for 2 options"]),
        (lambda cells: cells.__setitem__(0, "x"), ["index"]),
        (lambda cells: cells.__setitem__(9, "77"), ["image: no row before it is '77'"]),
        (lambda cells: cells.__setitem__(9, "?" * 99), ["base64"]),
    ],
    ids=["cells", "answer", "index", "image-of-no-row", "no-picture"],
)
def test_a_bad_line_of_mmbench_is_named(
    tmp_path: Path, encoded: str, change: Any, words: list[str]
) -> None:
    rows = [mmbench_cells(n, ["cat", "dog", "", ""], "B", encoded) for n in (1, 2)]
    change(rows[1])
    with pytest.raises(SampleError) as caught:
        tl.load_samples(f"mmbench:{mmbench(tmp_path / 'data', rows)}")
    # Questions hold a line break, so that the second row ends in the fifth line.
    words = [*words, "MMBench_DEV_EN.tsv:5"]
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.usefixtures("tables")
def test_mmbench_mirror_and_the_addresses_of_pictures(tmp_path: Path, encoded: str) -> None:
    row = {"index": 5, "question": "Which?", "hint": "nan", "A": "cat", "B": "dog", "C": "nan"}
    row |= {"D": "nan", "answer": "A", "category": "x", "L2-category": "logic", "image": SIZE}
    mirror = tl.load_samples(f"mmbench:{hub(tmp_path / 'hub', {'dev': [row]}, 'en')}")
    assert [sample.answers for sample in mirror] == [("A", "cat"), ("B", "cat")]
    assert mirror[0].task == "logic"
    rows = [mmbench_cells(1, ["cat", "dog", "", ""], "B", encoded)]
    files = tl.load_samples(f"mmbench:{mmbench(tmp_path / 'files', rows)}")
    for sample in (mirror[0], files[0]):
        assert isinstance(sample.image, StoredPicture)
        found = find_picture(sample.image.address)
        assert found == sample.image
        assert open_picture(found).tobytes() == sample.open_image().tobytes()


MME = (
    "Is there a cat? Please answer yes or no.\tYes\nIs there a dog? Please answer yes or no.\tNo\n"
)


def mme(folder: Path) -> Path:
    for name in ("a", "b"):
        picture(folder / "existence" / f"{name}.jpg")
        (folder / "existence" / f"{name}.txt").write_text(MME, encoding="utf-8")
    picture(folder / "code_reasoning" / "images" / "c.png")
    (folder / "code_reasoning" / "questions_answers_YN").mkdir()
    (folder / "code_reasoning" / "questions_answers_YN" / "c.txt").write_text(MME, "utf-8")
    return folder


def test_mme_golden(tmp_path: Path) -> None:
    """Existence: 3 of 4 right, 1 of 2 pictures: 75 + 50. Code: 1 of 2, no picture: 50 + 0."""
    samples = tl.load_samples(f"mme:{mme(tmp_path / 'MME_Benchmark_release_version')}")
    assert [sample.group for sample in samples][::2] == [
        "existence/a",
        "existence/b",
        "code_reasoning/c",
    ]
    rows = graded(samples, ["Yes", "No.", "yes, it is", "Yes", "It is, yes", "no"])
    assert figures(rows) == {
        "existence": {"accuracy": 0.75, "accuracy⁺": 0.5, "score": 125},
        "code_reasoning": {"accuracy": 0.5, "accuracy⁺": 0, "score": 50},
        "perception": {"score": 125},
        "cognition": {"score": 50},
    }
    assert len(tl.load_samples(f"mme/existence:{tmp_path}")) == 4


@pytest.mark.usefixtures("tables")
def test_mme_mirror(tmp_path: Path) -> None:
    rows = [
        {"question_id": "existence/a.png", "image": SIZE, "category": "existence"}
        | dict(zip(("question", "answer"), line.split("\t"), strict=True))
        for line in MME.splitlines()
    ]
    samples = tl.load_samples(f"mme:{hub(tmp_path, {'test': rows})}")
    assert [(one.task, one.group, one.answers) for one in samples] == [
        ("existence", "existence/a.png", ("yes",)),
        ("existence", "existence/a.png", ("no",)),
    ]


@pytest.mark.parametrize("line", ["Is there a dog?", "Is there a dog?\tmaybe"])
def test_a_bad_line_of_mme_is_named(tmp_path: Path, line: str) -> None:
    (mme(tmp_path) / "existence" / "b.txt").write_text(MME.split("\n")[0] + "\n" + line)
    with pytest.raises(SampleError, match=r"existence/b.txt:2: "):
        tl.load_samples(f"mme:{tmp_path}")


def test_coco_golden(tmp_path: Path) -> None:
    """Two cups are no question; the one fork is, and half of its box counts."""
    fork = {"id": 13, "image_id": 100, "category_id": 2, "bbox": [0, 0, 40, 40], "iscrowd": 0}
    crowd = {**fork, "id": 14, "category_id": 3, "iscrowd": 1}
    content = {
        **INSTANCES,
        "annotations": [*INSTANCES["annotations"], fork, crowd],
        "categories": [
            {"id": number, "name": name} for number, name in enumerate(("?", "cup", "fork", "man"))
        ],
    }
    write(tmp_path / "annotations" / "instances_val2017.json", content)
    picture(tmp_path / "val2017" / "COCO_train2014_000000000100.jpg")
    samples = tl.load_samples(f"coco:{tmp_path}", "held-out")
    assert [(one.id, one.question.split(": ")[1], one.boxes) for one in samples] == [
        ("13", "fork", ((0, 0, 40, 40),))
    ]
    assert graded(samples, ["(0,0),(250,1000)"])["score"].to_list() == [1]
    assert graded(samples, ["(0,0),(249,1000)"])["score"].to_list() == [0]


@pytest.mark.usefixtures("tables")
def test_coco_mirror(tmp_path: Path) -> None:
    boxes = [[0.0, 0.0, 40.0, 40.0], [0.0, 0.0, 9.0, 9.0], [5.0, 5.0, 9.0, 9.0]]
    kinds = datasets.ClassLabel(names=["fork", "cup"])
    objects = {"category": kinds, "bbox": datasets.Sequence(datasets.Value("float64"))}
    row = {"image_id": 9, "image": SIZE, "objects": {"category": [0, 1, 1], "bbox": boxes}}
    feature = {name: datasets.Sequence(kind) for name, kind in objects.items()}
    hub(tmp_path, {"val": [row]}, features={"objects": feature})
    (sample,) = tl.load_samples(f"coco:{tmp_path}", "held-out")
    assert (sample.id, sample.boxes) == ("9/fork", ((0, 0, 40, 40),))


@pytest.mark.usefixtures("tables")
def test_a_damaged_table_is_one_line(tmp_path: Path) -> None:
    folder = hub(tmp_path, {"dev": [{"index": 1, "image": SIZE}]}, "en")
    (path,) = folder.rglob("*.parquet")
    assert parquet.read_table(path).num_rows == 1
    path.write_bytes(b"no table at all")
    with pytest.raises(SampleError, match="en dev: cannot be loaded") as caught:
        tl.load_samples(f"mmbench:{folder}")
    assert "\n" not in str(caught.value)
