"""Copies of the benchmarks' mirrors, with the columns, types and splits that their cards have."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

TEXT, WHOLE, SMALL = (datasets.Value(kind) for kind in ("string", "int64", "int8"))
TEXTS, NUMBERS = datasets.List(TEXT), datasets.List(datasets.Value("float32"))
PICTURE = datasets.Image()
Rows = Sequence[Mapping[str, Any]]


def shown(number: int) -> Image.Image:
    """A picture unlike those of other numbers."""
    return Image.new("RGB", (60, 40), (number * 37 % 256, number * 91 % 256, 128))


def write(
    folder: Path, features: Mapping[str, Any], tables: Mapping[tuple[str, str], Rows]
) -> Path:
    """A copy of a repository: a table per configuration and split, and the card that names them."""
    card = "---\nconfigs:\n"
    for config in dict.fromkeys(config for config, _ in tables):
        card += f"- config_name: {config}\n  data_files:\n"
        for (of, split), rows in tables.items():
            if of != config:
                continue
            path = folder / config / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            own = {key: kind for key, kind in features.items() if key in rows[0]}
            datasets.Dataset.from_list(list(rows), datasets.Features(own)).to_parquet(path)
            card += f"  - split: {split}\n    path: {config}/{split}-*\n"
    (folder / "README.md").write_text(card + "---\n", encoding="utf-8")
    return folder


def refcoco(folder: Path, splits: Sequence[str]) -> Path:
    """RefCOCO and its kin: two boxes a split, the first of `val` on a picture of the last split."""
    features = {"question_id": TEXT, "image": PICTURE, "question": TEXT, "answer": TEXTS}
    features |= {"segmentation": NUMBERS, "bbox": NUMBERS, "iscrowd": SMALL, "file_name": TEXT}
    last = len(splits) - 1

    def row(number: int, box: int) -> dict[str, Any]:
        return {
            "question_id": str(100 + number),
            "image": shown(number),
            "question": "Please carefully observe the area circled in the image …",
            "answer": ["left cat", "the cat"],
            "segmentation": [1.0, 1.0, 20.0, 1.0, 20.0, 20.0],
            "bbox": [1.0, 1.0, 19.0, 19.0],
            "iscrowd": 0,
            "file_name": f"COCO_train2014_{number:012d}_{box}.jpg",
        }

    def rows(place: int) -> list[dict[str, Any]]:
        numbers = [2 * place, 2 * place + 1]
        return [row(2 * last, 1), row(1, 0)] if place == 0 else [row(one, 0) for one in numbers]

    tables = {("default", split): rows(place) for place, split in enumerate(splits)}
    return write(folder, features, tables)


def pope(folder: Path) -> Path:
    """The three kinds in one table, and again as splits of the configuration `Full`."""
    texts = ("id", "question_id", "question", "answer", "image_source", "category")
    features = {**dict.fromkeys(texts, TEXT), "image": PICTURE}

    def rows(kind: str) -> list[dict[str, Any]]:
        return [
            {"id": str(number), "question_id": str(number), "image": shown(number)}
            | {"question": "Is there a cat in the image?", "answer": ("no", "yes")[number % 2]}
            | {"image_source": f"COCO_val2014_{number:012d}", "category": kind}
            for number in (1, 2)
        ]

    kinds = ("adversarial", "popular", "random")
    tables = {("Full", kind): rows(kind) for kind in kinds}
    return write(
        folder,
        features,
        {**tables, ("default", "test"): [row for kind in kinds for row in rows(kind)]},
    )


def gqa(folder: Path) -> Path:
    """Questions and pictures in configurations of their own, joined by the picture's id."""
    texts = ("id", "imageId", "question", "answer", "fullAnswer", "semanticStr")
    features = {
        **dict.fromkeys(texts, TEXT),
        "image": PICTURE,
        "isBalanced": datasets.Value("bool"),
    }
    tables: dict[tuple[str, str], Rows] = {}
    for number, split in enumerate(("train", "val", "testdev")):
        name = f"n{number}"
        asked = {
            "id": f"20{number}",
            "imageId": name,
            "question": "Is it overcast?",
            "answer": "no",
        }
        asked |= {"fullAnswer": "No.", "isBalanced": True, "semanticStr": "x"}
        tables[f"{split}_balanced_images", split] = [{"id": name, "image": shown(number)}]
        tables[f"{split}_balanced_instructions", split] = [asked]
    return write(folder, features, tables)


def scienceqa(folder: Path) -> Path:
    """Validation and test only; the first picture of validation is a picture of test too."""
    notes = ("task", "grade", "subject", "topic", "category", "skill", "lecture", "solution")
    features = {"image": PICTURE, "question": TEXT, "choices": TEXTS, "answer": SMALL, "hint": TEXT}
    features |= dict.fromkeys(notes, TEXT)

    def row(number: int) -> dict[str, Any]:
        asked = {"question": "Which?", "choices": ["a", "b", "c"], "answer": 2, "hint": ""}
        return {"image": shown(number), **asked, **dict.fromkeys(notes, "")}

    own = {"validation": [row(1), row(2)], "test": [row(1), row(3)]}
    configs = ("ScienceQA-FULL", "ScienceQA-IMG")
    tables = {(config, split): rows for config in configs for split, rows in own.items()}
    return write(folder, features, tables)


def mmbench(folder: Path) -> Path:
    """Indices as texts, what is left out as nan, and a test split without answers."""
    texts = ("index", "question", "hint", "answer", *"ABCD", "category", "source", "L2-category")
    features = {**dict.fromkeys((*texts, "comment", "split"), TEXT), "image": PICTURE}

    def row(index: int, answer: str, *options: str) -> dict[str, Any]:
        left_out = dict.fromkeys(("hint", "comment"), "nan")
        filled = dict(zip("ABCD", (*options, "nan", "nan"), strict=False))
        return {
            "index": str(index),
            "question": "Which?",
            "answer": answer,
            "category": "x",
            "source": "s",
            "L2-category": "logic",
            "split": "dev",
            **filled,
            **left_out,
            "image": shown(index % 1_000_000),
        }

    dev = [row(241, "A", "cat", "dog"), row(1_000_241, "B", "dog", "cat")]
    test = [{**one, "answer": "nan"} for one in dev]
    return write(folder, features, {("en", "dev"): dev, ("en", "test"): test, ("cn", "dev"): dev})


def textvqa(folder: Path) -> Path:
    """Ten answers a question, empty ones in the test split."""
    texts = ("image_id", "question", "set_name", "flickr_original_url")
    lists = ("question_tokens", "answers", "image_classes", "ocr_tokens")
    features = {**dict.fromkeys(texts, TEXT), **dict.fromkeys(lists, TEXTS), "image": PICTURE}
    features["question_id"] = datasets.Value("int32")
    tables = {}
    for number, (split, said) in enumerate((("train", "nous"), ("validation", "x"), ("test", ""))):
        asked = {"image_id": f"00{number}", "question_id": 34602 + number, "question": "brand?"}
        asked |= {"set_name": split, "flickr_original_url": "", "answers": [said] * 10}
        asked |= {key: ["x"] for key in ("question_tokens", "image_classes", "ocr_tokens")}
        tables["default", split] = [{**asked, "image": shown(number)}]
    return write(folder, features, tables)


def vqav2(folder: Path) -> Path:
    """Answers as structures in validation, null in the test splits."""
    answer = {"answer": TEXT, "answer_confidence": TEXT, "answer_id": WHOLE}
    features = {"question_type": TEXT, "multiple_choice_answer": TEXT, "answer_type": TEXT}
    features |= {"answers": datasets.List(answer), "image_id": WHOLE, "question_id": WHOLE}
    features |= {"question": TEXT, "image": PICTURE}
    said = [
        {"answer": "net", "answer_confidence": "maybe", "answer_id": number} for number in range(10)
    ]

    def row(answers: list[dict[str, Any]] | None) -> dict[str, Any]:
        kind = "what" if answers else None
        named = dict.fromkeys(("question_type", "multiple_choice_answer", "answer_type"), kind)
        asked = {"image_id": 262148, "question_id": 262148000, "question": "Where?"}
        return {**named, **asked, "answers": answers, "image": shown(4)}

    splits = {"validation": said, "testdev": None, "test": None}
    return write(folder, features, {("default", split): [row(it)] for split, it in splits.items()})


def mme(folder: Path) -> Path:
    """Two questions about one picture."""
    features = {**dict.fromkeys(("question_id", "question", "answer", "category"), TEXT)}
    row = {"question_id": "code_reasoning/0020.png", "category": "code_reasoning"}
    rows = [
        {**row, "question": "Is it code? Please answer yes or no.", "answer": said}
        | {"image": shown(5)}
        for said in ("Yes", "No")
    ]
    return write(folder, {**features, "image": PICTURE}, {("default", "test"): rows})


def coco(folder: Path) -> Path:
    """A list of structures that `datasets` may turn into a structure of lists; one has none."""
    kind = datasets.ClassLabel(names=["person", "bicycle", "car"])
    box = datasets.Sequence(datasets.Value("float64"), length=4)
    objects = datasets.Sequence(
        {"bbox_id": WHOLE, "category": kind, "bbox": box, "area": datasets.Value("float64")}
    )
    features = {"image_id": WHOLE, "image": PICTURE, "width": WHOLE, "height": WHOLE}
    features["objects"] = objects
    sizes = {"width": 60, "height": 40}
    held = {"bbox_id": [1, 2, 3], "category": [0, 2, 2], "area": [361.0, 16.0, 36.0]}
    held["bbox"] = [[1.0, 1.0, 20.0, 20.0], [5.0, 5.0, 9.0, 9.0], [6.0, 6.0, 12.0, 12.0]]
    tables = {}
    for number, split in enumerate(("train", "val")):
        one = {"image_id": 10 * number, "image": shown(number), **sizes, "objects": held}
        none = {**one, "image_id": 10 * number + 1, "objects": {key: [] for key in held}}
        tables["default", split] = [one, none]
    return write(folder, features, tables)


COPIES = {
    "refcoco": lambda folder: refcoco(folder, ("val", "test", "testA", "testB")),
    "refcoco+": lambda folder: refcoco(folder, ("val", "testA", "testB")),
    "refcocog": lambda folder: refcoco(folder, ("val", "test")),
    "coco": coco,
    "textvqa": textvqa,
    "vqav2": vqav2,
    "gqa": gqa,
    "scienceqa": scienceqa,
    "mme": mme,
    "mmbench": mmbench,
    "pope": pope,
}
"""Every benchmark's name to what writes a copy of its mirror."""
