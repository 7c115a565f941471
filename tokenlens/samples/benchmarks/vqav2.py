"""VQAv2: open questions about photographs, ten people's short answers.

Source: Goyal et al. 2017, `v2_OpenEnded_mscoco_{train,val}2014_questions.json` and
`v2_mscoco_{train,val}2014_annotations.json` (visualqa.org), over pictures of COCO 2014. Mirror:
lmms-lab/VQAv2, which has no train split. The test splits are published without answers.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from tokenlens.errors import SampleError
from tokenlens.samples.benchmarks.benchmark import Benchmark, Fields, Layout, Row, parse, row
from tokenlens.samples.benchmarks.files import PictureFolder, entries, find
from tokenlens.samples.benchmarks.tables import Table
from tokenlens.samples.benchmarks.wording import SHORT
from tokenlens.samples.pictures import StoredPicture


class _Question(Fields):
    question_id: int
    image_id: int
    question: str


class _Answer(Fields):
    answer: str


class _Annotation(Fields):
    question_id: int
    answers: list[_Answer]


def _listed(answers: Any) -> Any:
    """A table's list of structures, which `datasets` may turn into a structure of lists."""
    if isinstance(answers, dict) and isinstance(answers.get("answer"), list):
        return [{"answer": answer} for answer in answers["answer"]]
    return answers


class _HubRow(_Question):
    answers: Annotated[list[_Answer] | None, BeforeValidator(_listed)] = None


def _row(
    where: str, asked: _Question, answers: list[_Answer] | None, image: Path | StoredPicture
) -> Row:
    return row(
        where,
        picture=str(asked.image_id),
        id=str(asked.question_id),
        image=image,
        question=asked.question + SHORT,
        answers=tuple(given.answer for given in answers or ()),
        task="vqav2",
        metric="vqa",
    )


def _files(place: str, split: str) -> Iterator[Row]:
    top = Path(place)
    patterns = (f"v2_OpenEnded_mscoco_{split}2*_questions.json",)
    path = find(top, patterns, f"questions of the split {split!r}")
    subset = path.name.split("_")[3]
    noted = not split.startswith("test")
    answers = _answers(top / f"v2_mscoco_{subset}_annotations.json") if noted else {}
    photos = subset.replace("-dev", "")
    pictures = PictureFolder((top,), (photos, f"coco/{photos}", f"images/{photos}", "images"))
    for where, entry in entries(path, "questions"):
        asked = parse(_Question, entry, where)
        if noted and asked.question_id not in answers:
            raise SampleError(f"{where}: question {asked.question_id} has no annotation")
        image = pictures.find(f"COCO_{photos}_{asked.image_id:012d}.jpg")
        yield _row(where, asked, answers.get(asked.question_id), image)


def _answers(path: Path) -> dict[int, list[_Answer]]:
    found = (parse(_Annotation, entry, where) for where, entry in entries(path, "annotations"))
    return {annotation.question_id: annotation.answers for annotation in found}


def _hub(place: str, split: str) -> Iterator[Row]:
    table = Table(place, split)
    for where, index, columns in table.rows():
        fields = parse(_HubRow, columns, where)
        yield _row(where, fields, fields.answers, table.picture(index))


BENCHMARKS = (
    Benchmark(
        name="vqav2",
        about="open questions about photographs: VQA soft accuracy",
        metric="vqa",
        files=Layout(_files, "train", "val"),
        hub=Layout(_hub, "validation", "validation"),
        hub_id="lmms-lab/VQAv2",
    ),
)
