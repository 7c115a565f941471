"""TextVQA: what does the text in the picture say? Ten people's short answers.

Source: Singh et al. 2019, `TextVQA_0.5.1_{train,val,test}.json` beside `train_images` (which the
validation split uses too) and `test_images`. Mirror: lmms-lab/textvqa. The metric is VQA's soft
accuracy. The text tokens that LLaVA's scripts add to the question are left out.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from tokenlens.samples.benchmarks.benchmark import Benchmark, Fields, Layout, Row, parse, row
from tokenlens.samples.benchmarks.files import PictureFolder, entries, find
from tokenlens.samples.benchmarks.tables import Table
from tokenlens.samples.benchmarks.wording import SHORT
from tokenlens.samples.pictures import StoredPicture


class _Entry(Fields):
    """A question, alike in both layouts; the test split has no answers."""

    question_id: int
    image_id: str
    question: str
    answers: list[str] = Field(default=[])


def _row(where: str, fields: _Entry, image: Path | StoredPicture) -> Row:
    return row(
        where,
        picture=fields.image_id,
        id=str(fields.question_id),
        image=image,
        question=fields.question + SHORT,
        answers=tuple(answer for answer in fields.answers if answer),
        task="textvqa",
        metric="vqa",
    )


def _files(place: str, split: str) -> Iterator[Row]:
    top = Path(place)
    path = find(top, (f"TextVQA_*_{split}.json",), f"questions of the split {split!r}")
    folders = ("test_images", "train_images") if split == "test" else ("train_images",)
    pictures = PictureFolder((top,), (*folders, *(f"train_val_images/{f}" for f in folders)))
    for where, entry in entries(path, "data"):
        fields = parse(_Entry, entry, where)
        yield _row(where, fields, pictures.find(f"{fields.image_id}.jpg"))


def _hub(place: str, split: str) -> Iterator[Row]:
    table = Table(place, split)
    for where, index, columns in table.rows():
        yield _row(where, parse(_Entry, columns, where), table.picture(index))


BENCHMARKS = (
    Benchmark(
        name="textvqa",
        about="text in pictures: VQA soft accuracy",
        metric="vqa",
        files=Layout(_files, "train", "val"),
        hub=Layout(_hub, "train", "validation"),
        hub_id="lmms-lab/textvqa",
    ),
)
