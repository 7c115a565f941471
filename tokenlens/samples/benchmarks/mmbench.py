"""MMBench: questions with options, each asked in every order of its options (circular evaluation).

Source: Liu et al., arXiv 2307.06281, `MMBench_DEV_EN.tsv` (or `mmbench_dev_20230712.tsv`): pictures
in base64, the orders of one question under indices that differ by a million. Mirror:
lmms-lab/MMBench, configuration en. Where a file holds a question once only, its other orders are
made here. The test split is published without answers.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from tokenlens.errors import SampleError
from tokenlens.samples.benchmarks.benchmark import Benchmark, Fields, Layout, Row, parse, row
from tokenlens.samples.benchmarks.files import find
from tokenlens.samples.benchmarks.tables import Table
from tokenlens.samples.benchmarks.tsv import read_tsv
from tokenlens.samples.benchmarks.wording import with_options
from tokenlens.samples.pictures import StoredPicture

_STEP = 1_000_000
"""What the indices of two orders of one question differ by a multiple of."""
_LETTERS = "ABCD"

Text = Annotated[str, BeforeValidator(lambda value: "" if value in (None, "nan") else str(value))]
"""A field that may be left out, which the files write as nothing or as nan."""


class _Question(Fields):
    index: int
    question: str
    hint: Text = ""
    a: Text = Field(alias="A")
    b: Text = Field(alias="B")
    c: Text = Field(alias="C", default="")
    d: Text = Field(alias="D", default="")
    answer: Text = ""
    category: Text = ""
    ability: Text = Field(alias="l2-category", default="")

    @property
    def options(self) -> list[str]:
        """The options that there are, from A on."""
        return [option for option in (self.a, self.b, self.c, self.d) if option]


def _rows(asked: Sequence[tuple[str, _Question, StoredPicture]]) -> Iterator[Row]:
    orders = Counter(question.index % _STEP for _, question, _ in asked)
    for where, question, image in asked:
        options, answer = question.options, question.answer
        if len(options) < 2 or (answer and answer not in _LETTERS[: len(options)]):
            raise SampleError(
                f"{where}: answer: got {answer!r} for {len(options)} options, expected one of "
                "their letters"
            )
        alone = orders[question.index % _STEP] == 1
        for turn in range(len(options) if alone else 1):
            yield _turned(where, question, image, turn)


def _turned(where: str, question: _Question, image: StoredPicture, turn: int) -> Row:
    """The question with its options rotated by `turn` places."""
    options = question.options
    turned = options[-turn:] + options[:-turn] if turn else options
    right: tuple[str, ...] = ()
    if question.answer:
        place = _LETTERS.index(question.answer)
        right = (_LETTERS[(place + turn) % len(options)], options[place])
    return row(
        where,
        id=str(question.index + turn * _STEP),
        image=image,
        question=with_options(
            question.question, dict(zip(_LETTERS, turned, strict=False)), question.hint
        ),
        answers=right,
        task=question.ability or question.category or "mmbench",
        metric="mmbench",
        group=str(question.index % _STEP),
    )


def _files(place: str, split: str) -> Iterator[Row]:
    names = (f"MMBench_{split.upper()}_EN*.tsv", f"mmbench_{split}_2*.tsv")
    path = find(Path(place), names, f"questions of the split {split!r}")
    yield from _rows(
        [(where, parse(_Question, cells, where), image) for where, cells, image in read_tsv(path)]
    )


def _hub(place: str, split: str) -> Iterator[Row]:
    table = Table(place, split, "en")
    asked = []
    for where, index, columns in table.rows():
        cells = {"l2-category": columns.get("L2-category"), **columns}
        asked.append((where, parse(_Question, cells, where), table.picture(index)))
    yield from _rows(asked)


BENCHMARKS = (
    Benchmark(
        name="mmbench",
        about="questions in every order of their options: circular accuracy per ability",
        metric="mmbench",
        files=Layout(_files, "dev", "dev"),
        hub=Layout(_hub, "dev", "dev"),
        hub_id="lmms-lab/MMBench",
    ),
)
