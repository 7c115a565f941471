"""GQA: compositional questions with one short answer.

Source: Hudson and Manning 2019, `{train,val,testdev}_balanced_questions.json` beside `images`.
Mirror: lmms-lab/GQA, which keeps questions and pictures in two configurations. The metric is exact
match; case and outer punctuation are ignored.
"""

from collections.abc import Iterator
from pathlib import Path

from tokenlens.errors import SampleError
from tokenlens.samples.benchmarks.benchmark import Benchmark, Fields, Layout, Row, parse, row
from tokenlens.samples.benchmarks.files import PictureFolder, find, read_json
from tokenlens.samples.benchmarks.tables import Table
from tokenlens.samples.benchmarks.wording import SHORT
from tokenlens.samples.pictures import StoredPicture


class _Entry(Fields):
    imageId: str  # noqa: N815 - the file's own spelling
    question: str
    answer: str


class _HubRow(_Entry):
    id: str


class _HubPicture(Fields):
    id: str


def _row(where: str, name: str, fields: _Entry, image: Path | StoredPicture) -> Row:
    return row(
        where,
        picture=fields.imageId,
        id=name,
        image=image,
        question=fields.question + SHORT,
        answers=(fields.answer,),
        task="gqa",
        metric="exact",
    )


def _files(place: str, split: str) -> Iterator[Row]:
    top = Path(place)
    name = f"{split}_balanced_questions.json"
    path = find(top, (name, f"questions*/{name}"), f"questions of the split {split!r}")
    pictures = PictureFolder((top,), ("images", "allImages/images"))
    content = read_json(path)
    if not isinstance(content, dict):
        raise SampleError(f"{path}: got a {type(content).__name__}, expected questions by their id")
    for key, entry in content.items():
        where = f"{path}: {key}"
        fields = parse(_Entry, entry, where)
        yield _row(where, key, fields, pictures.find(f"{fields.imageId}.jpg"))


def _hub(place: str, split: str) -> Iterator[Row]:
    pictures = Table(place, split, f"{split}_balanced_images")
    indices = {
        parse(_HubPicture, columns, where).id: index for where, index, columns in pictures.rows()
    }
    for where, _, columns in Table(place, split, f"{split}_balanced_instructions").rows():
        fields = parse(_HubRow, columns, where)
        if fields.imageId not in indices:
            raise SampleError(f"{where}: imageId: {fields.imageId!r} is not among the pictures")
        yield _row(where, fields.id, fields, pictures.picture(indices[fields.imageId]))


BENCHMARKS = (
    Benchmark(
        name="gqa",
        about="compositional questions: exact match",
        metric="exact",
        files=Layout(_files, "val", "testdev"),
        hub=Layout(_hub, "val", "testdev"),
        hub_id="lmms-lab/GQA",
    ),
)
