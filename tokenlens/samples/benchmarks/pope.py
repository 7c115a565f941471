"""POPE: is there an object in the picture? Answers are yes or no.

Source: Li et al., "Evaluating Object Hallucination in Large Vision-Language Models" (arXiv
2305.10355), github.com/AoiDragon/POPE: `output/coco/coco_pope_{random,popular,adversarial}.json`,
one JSON object a line, over pictures of COCO val2014; and `output/seem/*/*_pope_seem_*.json`, one
array, over pictures of A-OKVQA or GQA. Mirror: lmms-lab/POPE. A split is one of the three, or
`test` for all of them, each a task of its own.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tokenlens.errors import SampleError
from tokenlens.samples.benchmarks.benchmark import Benchmark, Fields, Layout, Row, parse, row
from tokenlens.samples.benchmarks.files import PictureFolder, find, read_list
from tokenlens.samples.benchmarks.tables import Table
from tokenlens.samples.benchmarks.wording import SHORT
from tokenlens.wording.suggest import one_of

KINDS = ("random", "popular", "adversarial")
ALL = "test"
_PICTURES = ("val2014", "coco/val2014", "images", "images/val2014", "allImages/images", ".")


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
    pictures = PictureFolder((top, top.parent), _PICTURES)
    for kind in _kinds(split):
        path = _questions(top, kind)
        for where, line in read_list(path):
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


def _questions(top: Path, kind: str) -> Path:
    """The file of one kind of questions; `SampleError` where there are those of several sets."""
    name, seem = f"coco_pope_{kind}.json", f"*_pope_seem_{kind}.json"
    patterns = (
        name,
        f"coco/{name}",
        f"output/coco/{name}",
        seem,
        f"*/{seem}",
        f"output/seem/*/{seem}",
    )
    path = find(top, patterns, f"file of POPE's {kind}")
    same = sorted(path.parent.parent.glob(f"*/{seem}")) if "_seem_" in path.name else []
    if len(same) > 1 and path.parent != top:
        raise SampleError(
            f"{top} holds the questions of {len(same)} sets of pictures; name the folder of one, "
            f"such as {path.parent}"
        )
    return path


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
