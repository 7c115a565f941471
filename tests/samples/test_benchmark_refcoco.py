"""RefCOCO, RefCOCO+ and RefCOCOg: both layouts, and Acc@0.5 computed by hand."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

import tokenlens as tl
from tests.conftest import Ended
from tests.support.benchmark_files import INSTANCES, REFS, SIZE, hub, refcoco, refcoco_hub, write
from tests.support.grading import graded
from tokenlens.errors import SampleError, SplitWarning
from tokenlens.probing.profile import Profile

QUESTION = (
    "Please provide the bounding box coordinate of the region this sentence describes: left cup"
)


@pytest.mark.parametrize("name", ["refcoco", "refcoco+", "refcocog"])
def test_published_files(tmp_path: Path, name: str) -> None:
    samples = tl.load_samples(f"{name}/val:{refcoco(tmp_path, name)}", "held-out")
    assert [sample.id for sample in samples] == ["2", "3"]
    assert samples[0].question == QUESTION
    assert samples[0].boxes == ((0, 0, 40, 40),)
    assert samples[0].polygons == ()  # a mask, no outline
    assert samples[0].task == name
    assert samples.split == "val"


@pytest.mark.parametrize(
    ("name", "split", "ids"),
    [
        ("refcoco", "testA+testB", ["4"]),
        ("refcoco+", "testA+testB", ["4"]),
        ("refcocog", "val", ["2", "3"]),
    ],
)
def test_what_is_held_out(tmp_path: Path, name: str, split: str, ids: list[str]) -> None:
    samples = tl.load_samples(f"{name}:{refcoco(tmp_path, name)}", "held-out")
    assert (samples.split, [sample.id for sample in samples]) == (split, ids)


def test_own_directory_and_splits(tmp_path: Path) -> None:
    folder = refcoco(tmp_path) / "refcoco"
    (train,) = tl.load_samples(f"refcoco:{folder}", "calibration")
    assert train.id == "1"
    assert [one.id for one in tl.load_samples(f"refcoco/test:{folder}")] == ["4"]
    with pytest.raises(SampleError, match="one of testA, train, val"):
        tl.load_samples(f"refcoco/testB:{folder}")


def test_regions_that_overshoot_by_rounding_are_cut_to_the_picture(tmp_path: Path) -> None:
    (sample,) = tl.load_samples(f"refcoco/train:{refcoco(tmp_path)}")
    assert sample.boxes == ((40, 0, 80, 20),)  # published: to 81.5 of 80 pixels
    assert sample.polygons == (((40, 0), (80, 0), (80, 20)),)


@pytest.mark.usefixtures("tables")
def test_mirror(tmp_path: Path) -> None:
    with pytest.warns(SplitWarning, match="the mirror's val has 8,811 boxes"):
        samples = tl.load_samples(f"refcoco:{refcoco_hub(tmp_path)}", "calibration")
    assert [sample.question.rsplit(": ")[-1] for sample in samples] == ["left cup", "red cup"]
    assert samples[1].boxes == ((0, 0, 40, 40),)
    assert samples[1].polygons == (((0, 0), (40, 0), (40, 40)),)
    assert samples[1].open_image().size == SIZE
    held_out = tl.load_samples(f"refcoco:{tmp_path}", "held-out")
    assert [sample.id for sample in held_out] == ["testA/0/0", "testB/0/0"]


def test_golden(tmp_path: Path) -> None:
    """The left half of 80 x 40: exactly half of it counts, a little less does not."""
    samples = tl.load_samples(f"refcoco/val:{refcoco(tmp_path)}")
    assert graded(samples, ["(0,0),(250,1000)", "(0,0),(249,1000)"])["score"].to_list() == [1, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda refs, _: refs[1].pop("ann_id"), ["refs(unc).p: refs[1]", "ann_id", "missing"]),
        (lambda refs, _: refs[1].update(ann_id=99), ["refs(unc).p: refs[1]", "annotation 99"]),
        (
            lambda _, instances: instances["annotations"][1].update(bbox=[0, 0, 90, 40]),
            ["refs(unc).p: refs[1]", "boxes[0]", "outside the 80x40 picture"],
        ),
        (
            lambda _, instances: instances["annotations"][1].update(bbox=[0, 0, 9]),
            ["instances.json: annotations[1]", "bbox"],
        ),
    ],
    ids=["missing-key", "unknown-annotation", "outside", "three-numbers"],
)
def test_a_bad_entry_is_named(
    tmp_path: Path, change: Callable[[list, dict], object], words: list[str]
) -> None:
    refs, instances = copy.deepcopy(REFS), copy.deepcopy(INSTANCES)
    change(refs, instances)
    write(refcoco(tmp_path, refs=refs) / "refcoco" / "instances.json", instances)
    with pytest.raises(SampleError) as caught:
        tl.load_samples(f"refcoco/val:{tmp_path}", "held-out")
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.usefixtures("tables")
def test_a_bad_row_of_the_mirror_is_named(tmp_path: Path) -> None:
    rows = [
        {"question_id": str(index), "image": SIZE, "answer": ["cup"], "bbox": box}
        for index, box in enumerate([[0.0, 0.0, 9.0, 9.0], [5.0, 5.0, 0.0, 9.0]])
    ]
    hub(tmp_path, {"val": rows})
    with pytest.raises(SampleError, match=r"val row 1: .*boxes\[0\]: expected x0 < x1"):
        tl.load_samples(f"refcoco/val:{tmp_path}")


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return (Path.mkdir, (tmp_path / "sprung",))  # type: ignore[return-value]

    trap = pickle.dumps([Trap()], protocol=2)
    (refcoco(tmp_path) / "refcoco" / "refs(unc).p").write_bytes(trap)
    with pytest.raises(SampleError, match=r"refs\(unc\).p: cannot be read: holds"):
        tl.load_samples(f"refcoco:{tmp_path}")
    assert not (tmp_path / "sprung").exists()
    pickle.loads(trap)  # noqa: S301 - the control: an ordinary reader springs it
    assert (tmp_path / "sprung").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("tables")
def test_profile_and_layers_by_region_through_the_command_line(
    command: Callable[..., Ended], tmp_path: Path
) -> None:
    data = f"refcoco:{refcoco_hub(tmp_path / 'hub')}"
    ended = command("profile", "--data", data, "--out", "profile")
    assert ended.code == 0, ended.err
    assert all(row.region.any() and not row.region.all() for row in Profile(Path("profile")).rows())
    ended = command("select-layers", "profile", "--stages", 1, "--budget", "50%")
    assert ended.code == 0, ended.err
    ended = command("run")  # the schedule knows its data; the held-out split is another
    assert ended.code == 0, ended.err
    assert "refcoco-testa-testb" in ended.out
