"""TextVQA, VQAv2 and GQA: both layouts, and scores computed by hand."""

from pathlib import Path
from typing import Any

import pytest

import tokenlens as tl
from tests.support.benchmark_files import SIZE, hub, picture, write
from tests.support.grading import graded
from tokenlens.errors import SampleError

SHORT = "\nAnswer the question using a single word or phrase."
BRANDS = ["nokia"] * 2 + ["toshiba"] * 7 + ["Nokia!"]
COUNTS = ["2"] + ["3"] * 2 + ["many"] * 7


def textvqa_entry(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "question": "what brand is this?",
        "image_id": "0054c91397f2fe05",
        "image_classes": ["Phone"],
        "question_id": number,
        "answers": BRANDS,
        "set_name": "val",
        **changes,
    }


def textvqa(folder: Path, entries: list[dict[str, Any]]) -> Path:
    picture(folder / "train_images" / "0054c91397f2fe05.jpg")
    write(folder / "TextVQA_0.5.1_val.json", {"dataset_type": "val", "data": entries})
    return folder


def vqav2(folder: Path) -> Path:
    picture(folder / "val2014" / "COCO_val2014_000000000042.jpg")
    asked = [
        {"image_id": 42, "question": "How many cups?", "question_id": 42000 + index}
        for index in range(2)
    ]
    answers = [{"answer": answer, "answer_confidence": "yes", "answer_id": 1} for answer in COUNTS]
    noted = [
        {"question_id": question["question_id"], "image_id": 42, "answers": answers}
        | {"answer_type": "number", "multiple_choice_answer": "many"}
        for question in asked
    ]
    write(folder / "v2_OpenEnded_mscoco_val2014_questions.json", {"questions": asked})
    write(folder / "v2_mscoco_val2014_annotations.json", {"annotations": noted})
    return folder


def gqa_entry(**changes: Any) -> dict[str, Any]:
    return {"imageId": "n1", "question": "Which side?", "answer": "left", "isBalanced": True} | (
        changes
    )


def test_textvqa_golden(tmp_path: Path) -> None:
    """Three of ten say nokia (0.9), seven toshiba (1), none sony (0)."""
    folder = textvqa(tmp_path, [textvqa_entry(number) for number in (1, 2, 3)])
    samples = tl.load_samples(f"textvqa:{folder}", "held-out")
    assert samples[0].question == "what brand is this?" + SHORT
    assert len(samples[0].answers) == 10
    rows = graded(samples, ["Nokia", "the Toshiba.", "Sony"])
    assert rows["score"].to_list() == pytest.approx([0.9, 1, 0])


@pytest.mark.usefixtures("tables")
def test_textvqa_mirror(tmp_path: Path) -> None:
    rows = [{**textvqa_entry(7), "image": SIZE, "ocr_tokens": ["NOKIA"]}]
    (sample,) = tl.load_samples(f"textvqa:{hub(tmp_path, {'validation': rows})}", "held-out")
    assert (sample.id, sample.answers) == ("7", tuple(BRANDS))
    assert sample.open_image().size == SIZE


def test_vqav2_golden(tmp_path: Path) -> None:
    """Of ten, one says 2 (0.3) and two say 3 (0.6)."""
    samples = tl.load_samples(f"vqav2/val:{vqav2(tmp_path)}")
    assert samples[0].question == "How many cups?" + SHORT
    rows = graded(samples, ["Two", "three"])
    assert rows["score"].to_list() == pytest.approx([0.3, 0.6])


@pytest.mark.usefixtures("tables")
def test_vqav2_mirror(tmp_path: Path) -> None:
    answers = [{"answer": answer, "answer_id": 1} for answer in COUNTS]
    row = {"question_id": 5, "image_id": 42, "question": "How many?", "image": SIZE}
    folder = hub(tmp_path, {"validation": [{**row, "answers": answers}]})
    (sample,) = tl.load_samples(f"vqav2:{folder}")
    assert (sample.id, sample.answers) == ("5", tuple(COUNTS))


def test_gqa_golden(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "n1.jpg")
    entries = {"201": gqa_entry(), "202": gqa_entry(), "203": gqa_entry()}
    write(tmp_path / "testdev_balanced_questions.json", entries)
    samples = tl.load_samples(f"gqa:{tmp_path}", "held-out")
    assert [sample.id for sample in samples] == ["201", "202", "203"]
    rows = graded(samples, ["Left.", "the left", "right"])
    assert rows["score"].to_list() == [1, 0, 0]


@pytest.mark.usefixtures("tables")
def test_gqa_mirror_joins_questions_and_pictures(tmp_path: Path) -> None:
    pictures = [{"id": "n0", "image": (10, 10)}, {"id": "n1", "image": SIZE}]
    hub(tmp_path, {"testdev": pictures}, "testdev_balanced_images")
    hub(tmp_path, {"testdev": [gqa_entry(id="201")]}, "testdev_balanced_instructions")
    (sample,) = tl.load_samples(f"gqa:{tmp_path}", "held-out")
    assert (sample.id, sample.open_image().size) == ("201", SIZE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"question": None}, ["TextVQA_0.5.1_val.json: data[1]", "question"]),
        ({"image_id": "lost"}, ["data[1]", "lost.jpg", "no such picture"]),
        ({"question_id": 1}, ["data[1]", "id '1'", "data[0]"]),
        ({"answers": "nokia"}, ["data[1]", "answers", "'nokia'"]),
    ],
    ids=["question", "picture", "id", "answers"],
)
def test_a_bad_entry_is_named(tmp_path: Path, change: dict[str, Any], words: list[str]) -> None:
    textvqa(tmp_path, [textvqa_entry(1), textvqa_entry(2, **change)])
    with pytest.raises(SampleError) as caught:
        tl.load_samples(f"textvqa/val:{tmp_path}")
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_question_without_annotation_and_a_missing_file_are_named(tmp_path: Path) -> None:
    write(vqav2(tmp_path) / "v2_mscoco_val2014_annotations.json", {"annotations": []})
    with pytest.raises(SampleError, match=r"questions\[0\]: question 42000 has no annotation"):
        tl.load_samples(f"vqav2/val:{tmp_path}")
    with pytest.raises(SampleError, match="holds no questions of the split 'train'"):
        tl.load_samples(f"vqav2/train:{tmp_path}")
    write(tmp_path / "val_balanced_questions.json", {"9": {"question": "?", "imageId": "n1"}})
    with pytest.raises(SampleError, match=r"val_balanced_questions.json: 9: answer: is missing"):
        tl.load_samples(f"gqa:{tmp_path}")
