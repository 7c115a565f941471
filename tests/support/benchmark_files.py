"""Benchmarks of a few rows, written as they are published and as the hub keeps them."""

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

SIZE = (80, 40)
"""Width and height of every picture."""


def picture(path: Path, size: tuple[int, int] = SIZE) -> Path:
    """A picture whose colour depends on its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = tuple((sum(path.name.encode()) * step) % 256 for step in (1, 3, 7))
    Image.new("RGB", size, colour).save(path)
    return path


def write(path: Path, value: Any) -> Path:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_lines(path: Path, values: Sequence[Any]) -> Path:
    """A file with a JSON value a line; texts are written as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [value if isinstance(value, str) else json.dumps(value) for value in values]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def hub(
    folder: Path,
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    config: str | None = None,
    features: Mapping[str, Any] | None = None,
) -> Path:
    """A copy of a hub repository: parquet files and a README that names the splits.

    The column `image` holds (width, height) or None. Configurations are added to what is there.
    """
    readme = folder / "README.md"
    own = config or "default"
    data = config or "data"
    (folder / data).mkdir(parents=True, exist_ok=True)
    entry = f"- config_name: {own}\n  data_files:\n"
    for split, rows in splits.items():
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        if "image" in columns:
            columns["image"] = [size and Image.new("RGB", size) for size in columns["image"]]
        table = datasets.Dataset.from_dict(columns)
        if "image" in columns:
            table = table.cast_column("image", datasets.Image())
        for name, feature in (features or {}).items():
            table = table.cast_column(name, feature)
        table.to_parquet(folder / data / f"{split}-00000-of-00001.parquet")
        entry += f"  - split: {split}\n    path: {data}/{split}-*\n"
    before = readme.read_text() if readme.exists() else "---\nconfigs:\n---\n"
    readme.write_text(before.removesuffix("---\n") + entry + "---\n")
    return folder


POPE = {
    "random": [("a.jpg", "cup", "yes"), ("a.jpg", "cat", "no")],
    "popular": [("a.jpg", "cup", "yes"), ("a.jpg", "person", "no")],
    "adversarial": [("b.jpg", "fork", "yes"), ("b.jpg", "knife", "no")],
}
"""Kind to picture, object, and whether it is there."""


def pope_lines(kind: str) -> list[dict[str, Any]]:
    """The lines of one of POPE's files."""
    return [
        {"question_id": number, "image": image, "text": f"Is there a {thing} in the image?"}
        | {"label": label}
        for number, (image, thing, label) in enumerate(POPE[kind], start=1)
    ]


def pope(folder: Path) -> Path:
    """POPE in its published layout."""
    for name in ("a.jpg", "b.jpg"):
        picture(folder / "val2014" / name)
    for kind in POPE:
        write_lines(folder / "coco" / f"coco_pope_{kind}.json", pope_lines(kind))
    return folder


def pope_hub(folder: Path) -> Path:
    """POPE as lmms-lab/POPE keeps it."""
    rows = [
        {
            "id": str(number),
            "question_id": str(line["question_id"]),
            "question": line["text"],
            "answer": line["label"],
            "image_source": line["image"].removesuffix(".jpg"),
            "image": SIZE,
            "category": kind,
        }
        for kind in POPE
        for number, line in enumerate(pope_lines(kind))
    ]
    return hub(folder, {"test": rows})


REFS = [
    {
        "ref_id": 1,
        "ann_id": 11,
        "image_id": 100,
        "category_id": 1,
        "file_name": "COCO_train2014_000000000100_11.jpg",
        "split": "train",
        "sent_ids": [1],
        "sentences": [{"sent_id": 1, "sent": "the cup", "raw": "The cup", "tokens": ["cup"]}],
    },
    {
        "ref_id": 2,
        "ann_id": 12,
        "image_id": 100,
        "category_id": 1,
        "file_name": "COCO_train2014_000000000100_12.jpg",
        "split": "val",
        "sent_ids": [2, 3],
        "sentences": [
            {"sent_id": 2, "sent": "left cup", "raw": "left cup", "tokens": []},
            {"sent_id": 3, "sent": "red cup", "raw": "red cup", "tokens": []},
        ],
    },
    {
        "ref_id": 3,
        "ann_id": 13,
        "image_id": 101,
        "category_id": 1,
        "file_name": "COCO_train2014_000000000101_13.jpg",
        "split": "testA",
        "sent_ids": [4],
        "sentences": [{"sent_id": 4, "sent": "cup", "raw": "cup", "tokens": []}],
    },
]
INSTANCES = {
    "images": [
        {"id": 100, "file_name": "COCO_train2014_000000000100.jpg", "width": 80, "height": 40},
        {"id": 101, "file_name": "COCO_train2014_000000000101.jpg", "width": 80, "height": 40},
    ],
    "annotations": [
        {
            "id": 11,
            "image_id": 100,
            "category_id": 1,
            "bbox": [40.0, 0.0, 41.5, 20.0],  # overshoots the picture, as published boxes do
            "segmentation": [[40, 0, 80, 0, 80, 20]],
            "iscrowd": 0,
        },
        {
            "id": 12,
            "image_id": 100,
            "category_id": 1,
            "bbox": [0.0, 0.0, 40.0, 40.0],
            "segmentation": {"counts": "abc", "size": [40, 80]},
            "iscrowd": 0,
        },
        {
            "id": 13,
            "image_id": 101,
            "category_id": 1,
            "bbox": [10.0, 10.0, 20.0, 20.0],
            "segmentation": [[10, 10, 30, 10, 30, 30]],
            "iscrowd": 0,
        },
    ],
    "categories": [{"id": 1, "name": "cup"}],
}


def refcoco(folder: Path, name: str = "refcoco", refs: Any = REFS) -> Path:
    """RefCOCO in the layout of the refer toolkit, a pickle of Python 2 as published."""
    for number in (100, 101):
        name_of_picture = f"COCO_train2014_{number:012d}.jpg"
        picture(folder / "images/mscoco/images/train2014" / name_of_picture)
    write(folder / name / "instances.json", INSTANCES)
    by = "umd" if name == "refcocog" else "unc"
    (folder / name / f"refs({by}).p").write_bytes(pickle.dumps(refs, protocol=2))
    return folder


def refcoco_hub(folder: Path) -> Path:
    """RefCOCO as lmms-lab/RefCOCO keeps it."""
    row = {
        "question_id": "12",
        "image": SIZE,
        "question": "Please carefully observe the area circled in the image …",
        "answer": ["left cup", "red cup"],
        "segmentation": [0.0, 0.0, 40.0, 0.0, 40.0, 40.0],
        "bbox": [0.0, 0.0, 40.0, 40.0],
        "iscrowd": 0,
        "file_name": "COCO_train2014_000000000100_12.jpg",
    }
    judged = {**row, "answer": ["cup"], "file_name": "COCO_train2014_000000000101_13.jpg"}
    return hub(folder, {"val": [row], "test": [row], "testA": [judged], "testB": [judged]})
