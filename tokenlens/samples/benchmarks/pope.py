"""POPE: is there an object in the picture? Answers are yes or no.

Source: Li et al., "Evaluating Object Hallucination in Large Vision-Language Models" (arXiv
2305.10355), github.com/AoiDragon/POPE: `output/coco/coco_pope_{random,popular,adversarial}.json`,
one JSON object a line, over pictures of COCO val2014. Mirror: lmms-lab/POPE. A split is one of the
three, or `test` for all of them, each a task of its own.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tokenlens.errors import SampleError
from tokenlens.samples.benchmarks.benchmark import Benchmark, Fields, Layout, Row, parse, row
from tokenlens.samples.benchmarks.files import PictureFolder, find, read_lines
from tokenlens.samples.benchmarks.tables import Table
from tokenlens.samples.benchmarks.wording import SHORT
from tokenlens.wording.suggest import one_of

KINDS = ("random", "popular", "adversarial")
ALL = "test"


class _Line(Fields):
    question_id: int
    image: str
    text: str
    label: Literal["yes", "no"]


class _HubRow(Fields):
    question_id: str | int
    question: str
    answer: Literal["yes", "no"]
    category: Literal["random", "popular", "adversarial"]


def _kinds(split: str) -> tuple[str, ...]:
    if split not in (*KINDS, ALL):
        raise SampleError(f"pope: no split {split!r}: expected {one_of(split, (*KINDS, ALL))}")
    return KINDS if split == ALL else (split,)


def _files(place: str, split: str) -> Iterator[Row]:
    top = Path(place)
    pictures = PictureFolder((top,), ("val2014", "coco/val2014", "images", "."))
    for kind in _kinds(split):
        name = f"coco_pope_{kind}.json"
        path = find(top, (name, f"coco/{name}", f"output/coco/{name}"), f"file of POPE's {kind}")
        for where, line in read_lines(path):
            fields = parse(_Line, line, where)
            yield row(
                where,
                id=f"{kind}/{fields.question_id}",
                image=pictures.find(fields.image),
                question=fields.text + SHORT,
                answers=(fields.label,),
                task=kind,
                metric="pope",
            )


def _hub(place: str, split: str) -> Iterator[Row]:
    table, kinds = Table(place, "test"), _kinds(split)
    for where, index, columns in table.rows():
        fields = parse(_HubRow, columns, where)
        if fields.category in kinds:
            yield row(
                where,
                id=f"{fields.category}/{fields.question_id}",
                image=table.picture(index),
                question=fields.question.strip() + SHORT,
                answers=(fields.answer,),
                task=fields.category,
                metric="pope",
            )


BENCHMARKS = (
    Benchmark(
        name="pope",
        about="objects that are not there: accuracy, precision, recall, F1, yes ratio per split",
        metric="pope",
        files=Layout(_files, ALL, ALL),
        hub=Layout(_hub, ALL, ALL),
        hub_id="lmms-lab/POPE",
    ),
)
