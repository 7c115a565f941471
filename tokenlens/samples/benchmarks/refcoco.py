"""RefCOCO, RefCOCO+ and RefCOCOg: where is what a phrase describes? Answers are boxes.

Source: Yu et al. 2016 and Mao et al. 2016, in the layout of github.com/lichengunc/refer: per data
set a directory (`refcoco`, `refcoco+`, `refcocog`) with `refs(unc).p` (`refs(umd).p` or
`refs(google).p` for RefCOCOg) and `instances.json`, over pictures of COCO train2014. Mirrors:
lmms-lab/RefCOCO, RefCOCOplus and RefCOCOg. Every phrase is a sample. Splits: val, testA, testB (val
and test of RefCOCOg; train where the layout has it), and several with a plus between them: RefCOCO
and RefCOCO+ are judged on testA+testB. In the published files `test` means both; on the mirrors it
is a separate split, and that of RefCOCO is one that no paper reports.

The published metric is Acc@0.5: the share of boxes with an IoU of at least 0.5.
"""

import io
import pickle
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from tokenlens.errors import SampleError
from tokenlens.samples.benchmarks.benchmark import Benchmark, Fields, Layout, Row, parse, row
from tokenlens.samples.benchmarks.coco import Instances, outlines, xyxy
from tokenlens.samples.benchmarks.files import PictureFolder, find
from tokenlens.samples.benchmarks.tables import Table
from tokenlens.samples.benchmarks.wording import REGION
from tokenlens.wording.suggest import one_of

_BOTH = ("testA", "testB")
"""What RefCOCO and RefCOCO+ are judged on: people, and everything else."""
_PICTURES = ("images/mscoco/images/train2014", "train2014", "images/train2014", "images", ".")


class _Sentence(Fields):
    sent_id: int
    sent: str


class _Ref(Fields):
    ref_id: int
    ann_id: int
    image_id: int
    split: str
    sentences: list[_Sentence]


class _HubRow(Fields):
    question_id: str | int
    answer: list[str]
    bbox: tuple[float, float, float, float]
    segmentation: list[float] = Field(default=[])
    file_name: str = ""

    @property
    def picture(self) -> str:
        """The picture of COCO, which the file is named after; what follows is the box's number."""
        return self.file_name.rpartition("_")[0]


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, dictionaries, texts and numbers; refuses whatever could run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"holds {module}.{name}, expected lists and dictionaries")


def _files(name: str, place: str, split: str) -> Iterator[Row]:
    top = Path(place)
    own = top / name if (top / name).is_dir() else top
    path = find(own, ("refs(unc).p", "refs(umd).p", "refs(google).p"), f"references of {name}")
    instances = Instances.read(own / "instances.json")
    pictures = PictureFolder((top, top.parent), _PICTURES)
    wanted = set(_BOTH if split == "test" else split.split("+"))
    seen = set()
    for where, ref in _refs(path):
        seen.add(ref.split)
        if ref.split not in {*wanted, split}:
            continue
        if ref.ann_id not in instances.annotations or ref.image_id not in instances.images:
            raise SampleError(
                f"{where}: annotation {ref.ann_id} of picture {ref.image_id} is not in "
                "instances.json"
            )
        annotation = instances.annotations[ref.ann_id]
        picture = pictures.find(instances.images[ref.image_id].file_name)
        for sentence in ref.sentences:
            yield row(
                where,
                picture=str(ref.image_id),
                id=str(sentence.sent_id),
                image=picture,
                question=REGION + sentence.sent,
                task=name,
                boxes=(xyxy(annotation.bbox),),
                polygons=outlines(annotation.segmentation),
                metric="box",
            )
    if not seen & {*wanted, split}:
        raise SampleError(f"{path}: no split {split!r}: expected {one_of(split, sorted(seen))}")


def _refs(path: Path) -> Iterator[tuple[str, _Ref]]:
    try:
        refs = _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:
        # A damaged pickle may raise nearly anything.
        raise SampleError(f"{path}: cannot be read: {error}") from error
    if not isinstance(refs, list):
        raise SampleError(f"{path}: got a {type(refs).__name__}, expected a list of references")
    for index, ref in enumerate(refs):
        where = f"{path}: refs[{index}]"
        yield where, parse(_Ref, ref, where)


def _hub(name: str, place: str, split: str) -> Iterator[Row]:
    parts = split.split("+")
    for part in parts:
        table = Table(place, part)
        prefix = f"{part}/" if len(parts) > 1 else ""
        for where, index, columns in table.rows():
            fields = parse(_HubRow, columns, where)
            for number, phrase in enumerate(fields.answer):
                yield row(
                    where,
                    picture=fields.picture,
                    id=f"{prefix}{index}/{number}",
                    image=table.picture(index),
                    question=REGION + phrase,
                    task=name,
                    boxes=(xyxy(fields.bbox),),
                    polygons=outlines([fields.segmentation]),
                    metric="box",
                )


def _benchmark(name: str, about: str, hub_id: str, notes: Mapping[str, str]) -> Benchmark:
    both = "+".join(_BOTH)
    of_g = name == "refcocog"
    return Benchmark(
        name=name,
        about=f"{about}: Acc@0.5",
        metric="box",
        files=Layout(partial(_files, name), "train", "val" if of_g else both),
        hub=Layout(partial(_hub, name), "val", "test" if of_g else both, notes),
        hub_id=hub_id,
    )


BENCHMARKS = (
    _benchmark(
        "refcoco",
        "boxes of what a phrase describes",
        "lmms-lab/RefCOCO",
        {
            "val": "the mirror's val has 8,811 boxes: the published 3,811 and 5,000 of another "
            "split of RefCOCO; choose layers on it, and report testA and testB",
            "test": "the mirror's test, 5,000 boxes, is no split that is reported; report testA "
            "and testB",
        },
    ),
    _benchmark(
        "refcoco+",
        "the same, phrases without words of place",
        "lmms-lab/RefCOCOplus",
        {},
    ),
    _benchmark(
        "refcocog",
        "the same, longer phrases",
        "lmms-lab/RefCOCOg",
        {
            "val": "the mirror's val has 7,573 boxes: the published 2,573 and 5,000 of another "
            "split of RefCOCOg; choose layers on it, and report test",
        },
    ),
)
