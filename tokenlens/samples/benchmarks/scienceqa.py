"""ScienceQA: school questions with options; those that have a picture.

Source: Lu et al. 2022, `problems.json` and `pid_splits.json` beside `images/{train,val,test}/{id}`
(lupantech/ScienceQA on GitHub, `data/scienceqa`). Mirror: lmms-lab/ScienceQA, configuration
ScienceQA-IMG. The metric is the accuracy of the choice.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from tokenlens.errors import SampleError
from tokenlens.samples.benchmarks.benchmark import Benchmark, Fields, Layout, Row, parse, row
from tokenlens.samples.benchmarks.files import PictureFolder, find, read_json
from tokenlens.samples.benchmarks.tables import Table
from tokenlens.samples.benchmarks.wording import LETTERS, with_options
from tokenlens.samples.pictures import StoredPicture
from tokenlens.wording.suggest import one_of

_PICTURES = ("images/train", "images/val", "images/test", "images")
"""A problem's number says which: the other splits (trainval, minival, …) are made of these."""


class _Problem(Fields):
    """A question, alike in both layouts; `answer` is the index of the right choice."""

    question: str
    choices: list[str] = Field(min_length=2, max_length=len(LETTERS))
    answer: int = Field(ge=0)
    hint: str | None = None
    image: str | None = None


def _row(where: str, name: str, problem: _Problem, image: Path | StoredPicture) -> Row:
    if problem.answer >= len(problem.choices):
        raise SampleError(
            f"{where}: answer: got {problem.answer}, expected less than {len(problem.choices)}, "
            "the number of choices"
        )
    options = dict(zip(LETTERS, problem.choices, strict=False))
    hint = f"Context: {problem.hint}" if problem.hint else ""
    return row(
        where,
        id=name,
        image=image,
        question=with_options(problem.question, options, hint),
        answers=(LETTERS[problem.answer], problem.choices[problem.answer]),
        task="scienceqa",
        metric="choice",
    )


def _files(place: str, split: str) -> Iterator[Row]:
    top = Path(place)
    listed = find(top, ("pid_splits.json", "data/scienceqa/pid_splits.json"), "list of splits")
    splits, path = read_json(listed), listed.parent / "problems.json"
    problems = read_json(path)
    if not isinstance(splits, dict) or not isinstance(problems, dict):
        raise SampleError(f"{listed.parent}: pid_splits.json and problems.json must be objects")
    if split not in splits:
        raise SampleError(f"{listed}: no split {split!r}: expected {one_of(split, splits)}")
    pictures = PictureFolder((listed.parent,), _PICTURES)
    for name in splits[split]:
        where = f"{path}: {name}"
        problem = parse(_Problem, problems.get(str(name)), where)
        if problem.image:
            yield _row(where, str(name), problem, pictures.find(f"{name}/{problem.image}"))


def _hub(place: str, split: str) -> Iterator[Row]:
    table = Table(place, split, "ScienceQA-IMG")
    for where, index, columns in table.rows():
        yield _row(where, str(index), parse(_Problem, columns, where), table.picture(index))


BENCHMARKS = (
    Benchmark(
        name="scienceqa",
        about="school questions with a picture: accuracy of the choice",
        metric="choice",
        files=Layout(_files, "val", "test"),
        hub=Layout(_hub, "validation", "test"),
        hub_id="lmms-lab/ScienceQA",
    ),
)
