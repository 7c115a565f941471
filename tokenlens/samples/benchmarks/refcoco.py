"""RefCOCO, RefCOCO+ and RefCOCOg: where is what a phrase describes? Answers are boxes.

Source: Yu et al. 2016 and Mao et al. 2016, in the layout of github.com/lichengunc/refer: per data
set a directory (`refcoco`, `refcoco+`, `refcocog`) with `refs(unc).p` (`refs(umd).p` or
`refs(google).p` for RefCOCOg) and `instances.json`, over pictures of COCO train2014. Mirrors:
lmms-lab/RefCOCO, RefCOCOplus and RefCOCOg. Every phrase is a sample. Splits: val, testA, testB (val
and test of RefCOCOg; train where the layout has it); `test` takes testA and testB.

The published metric is Acc@0.5: the share of boxes with an IoU of at least 0.5.
"""

import io
import pickle
from collections.abc import Iterator
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
    seen = set()
    for where, ref in _refs(path):
        seen.add(ref.split)
        if ref.split != split and not (split == "test" and ref.split in ("testA", "testB")):
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
                id=str(sentence.sent_id),
                image=picture,
                question=REGION + sentence.sent,
                task=name,
                boxes=(xyxy(annotation.bbox),),
                polygons=outlines(annotation.segmentation),
                metric="box",
            )
    if split not in seen and not (split == "test" and seen & {"testA", "testB"}):
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
    table = Table(place, split)
    for where, index, columns in table.rows():
        fields = parse(_HubRow, columns, where)
        for number, phrase in enumerate(fields.answer):
            yield row(
                where,
                id=f"{index}/{number}",
                image=table.picture(index),
                question=REGION + phrase,
                task=name,
                boxes=(xyxy(fields.bbox),),
                polygons=outlines([fields.segmentation]),
                metric="box",
            )


def _benchmark(name: str, about: str, hub_id: str) -> Benchmark:
    return Benchmark(
        name=name,
        about=f"{about}: Acc@0.5",
        metric="box",
        files=Layout(partial(_files, name), "train", "val"),
        hub=Layout(partial(_hub, name), "val", "test"),
        hub_id=hub_id,
    )


BENCHMARKS = (
    _benchmark("refcoco", "boxes of what a phrase describes", "lmms-lab/RefCOCO"),
    _benchmark("refcoco+", "the same, phrases without words of place", "lmms-lab/RefCOCOplus"),
    _benchmark("refcocog", "the same, longer phrases", "lmms-lab/RefCOCOg"),
)
