"""MME: two yes-or-no questions per picture, in fourteen subtasks.

Source: Fu et al., arXiv 2306.13394, `MME_Benchmark_release_version`: a directory per subtask with a
text file beside every picture, one `question<tab>Yes` per line; five subtasks keep them apart in
`images` and `questions_answers_YN`. The archive unpacks them one folder deeper, `MME_Benchmark`.
Mirror: lmms-lab/MME. The questions end with MME's own "Please answer yes or no.". A split is one of
the subtasks, or `test` for all of them.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

from tokenlens.errors import SampleError
from tokenlens.samples.benchmarks.benchmark import Benchmark, Fields, Layout, Row, parse, row
from tokenlens.samples.benchmarks.files import read_text
from tokenlens.samples.benchmarks.tables import Table
from tokenlens.samples.pictures import StoredPicture
from tokenlens.wording.suggest import one_of

PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = (
    "commonsense_reasoning",
    "numerical_calculation",
    "text_translation",
    "code_reasoning",
)
ALL = "test"
_DEEPER = (
    (),
    ("MME_Benchmark",),
    ("MME_Benchmark_release_version",),
    ("MME_Benchmark_release_version", "MME_Benchmark"),
)
"""Where the subtasks are found, from the folder that is named."""
_SUFFIXES = (".jpg", ".png", ".jpeg")


class _Line(Fields):
    question: str
    answer: Annotated[Literal["yes", "no"], BeforeValidator(lambda text: str(text).strip().lower())]


class _HubRow(_Line):
    question_id: str
    category: str


def _row(
    where: str, subtask: str, group: str, number: int, line: _Line, image: Path | StoredPicture
) -> Row:
    return row(
        where,
        id=f"{group}/{number}",
        image=image,
        question=line.question.strip(),
        answers=(line.answer,),
        task=subtask,
        metric="mme",
        group=group,
    )


def _subtasks(split: str) -> tuple[str, ...]:
    known = (*PERCEPTION, *COGNITION)
    if split not in (*known, ALL):
        raise SampleError(f"mme: no split {split!r}: expected {one_of(split, (ALL, *known))}")
    return known if split == ALL else (split,)


def _files(place: str, split: str) -> Iterator[Row]:
    tops = [Path(place, *deeper) for deeper in _DEEPER]
    top = next((top for top in tops if _held(top, ALL)), tops[0])
    held = _held(top, split)
    if not held:
        what = "subtask" if split == ALL else f"subtask {split}"
        raise SampleError(f"{top} holds no {what} of MME; expected existence, count, position …")
    for folder in held:
        apart = folder / "questions_answers_YN"
        for path in sorted((apart if apart.is_dir() else folder).glob("*.txt")):
            yield from _pair(folder, path)


def _held(top: Path, split: str) -> list[Path]:
    return [top / name for name in _subtasks(split) if (top / name).is_dir()]


def _pair(folder: Path, path: Path) -> Iterator[Row]:
    """The questions of one text file and their picture."""
    places = [folder / "images", folder] if (folder / "images").is_dir() else [folder]
    paths = [place / f"{path.stem}{suffix}" for place in places for suffix in _SUFFIXES]
    image = next((one for one in paths if one.is_file()), paths[0])
    for number, text in enumerate(read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        where = f"{path}:{number}"
        if "\t" not in text:
            raise SampleError(f"{where}: expected a question, a tab, and Yes or No")
        question, answer = text.strip().rsplit("\t", 1)
        line = parse(_Line, {"question": question, "answer": answer}, where)
        yield _row(where, folder.name, f"{folder.name}/{path.stem}", number, line, image)


def _hub(place: str, split: str) -> Iterator[Row]:
    table, subtasks = Table(place, "test"), _subtasks(split)
    seen: Counter[str] = Counter()
    for where, index, columns in table.rows():
        fields = parse(_HubRow, columns, where)
        if fields.category in subtasks:
            seen[fields.question_id] += 1
            number = seen[fields.question_id]
            picture = table.picture(index)
            yield _row(where, fields.category, fields.question_id, number, fields, picture)


BENCHMARKS = (
    Benchmark(
        name="mme",
        about="yes or no: accuracy, accuracy⁺, their sum per subtask, perception and cognition",
        metric="mme",
        files=Layout(_files, ALL, ALL),
        hub=Layout(_hub, ALL, ALL),
        hub_id="lmms-lab/MME",
    ),
)
