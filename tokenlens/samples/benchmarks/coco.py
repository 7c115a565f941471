"""COCO-style boxes: where is the one thing of its kind? Answers are boxes.

Source: Lin et al. 2014, `instances_*.json` as cocodataset.org publishes it, and every data set in
that format. Mirror: detection-datasets/coco. There is no published question for a single box; here
every category with exactly one object in a picture is asked for in RefCOCO's wording and scored by
its metric, Acc@0.5. Crowds are left out, and so is their category in that picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from tokenlens.errors import SampleError
from tokenlens.samples.benchmarks.benchmark import Benchmark, Fields, Layout, Row, parse, row
from tokenlens.samples.benchmarks.files import PictureFolder, find, read_json
from tokenlens.samples.benchmarks.tables import Table
from tokenlens.samples.benchmarks.wording import REGION
from tokenlens.samples.sample import Box, Polygon


class Picture(Fields):
    """A picture of an `instances` file."""

    id: int
    file_name: str


class Annotation(Fields):
    """An object of an `instances` file; `bbox` is x, y, width, height in pixels."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    segmentation: list[list[float]] | dict[str, Any] = Field(default=[])
    iscrowd: int = 0


class _Category(Fields):
    id: int
    name: str


@dataclass(frozen=True)
class Instances:
    """An `instances` file.

    Attributes:
        images: its pictures by id.
        annotations: its objects by id.
        categories: the names of its categories by id.
        places: the place of each object in the file, by id.
    """

    images: dict[int, Picture]
    annotations: dict[int, Annotation]
    categories: dict[int, str]
    places: dict[int, str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file; `SampleError` with the file and the entry that is wrong."""
        content = read_json(path)
        if not isinstance(content, dict):
            raise SampleError(f"{path}: got a {type(content).__name__}, expected an object")
        rows = {
            key: [
                (f"{path}: {key}[{index}]", entry)
                for index, entry in enumerate(content.get(key) or [])
            ]
            for key in ("images", "annotations", "categories")
        }
        images = [parse(Picture, entry, place) for place, entry in rows["images"]]
        objects = [(place, parse(Annotation, entry, place)) for place, entry in rows["annotations"]]
        categories = [parse(_Category, entry, place) for place, entry in rows["categories"]]
        return cls(
            images={image.id: image for image in images},
            annotations={thing.id: thing for _, thing in objects},
            categories={category.id: category.name for category in categories},
            places={thing.id: place for place, thing in objects},
        )


def xyxy(box: Sequence[float]) -> Box:
    """A box from x, y, width, height.

    >>> xyxy((10, 20, 30, 40))
    (10, 20, 40, 60)
    """
    x, y, width, height = box
    return (x, y, x + width, y + height)


def outlines(segmentation: Any) -> tuple[Polygon, ...]:
    """The polygons of a segmentation that is a list of x, y, x, y, …; none for a mask.

    >>> outlines([[0, 0, 4, 0, 4, 2]])
    (((0, 0), (4, 0), (4, 2)),)
    >>> outlines({"counts": "abc", "size": [2, 2]}), outlines([[0, 0, 1, 1]])
    ((), ())
    """
    if not isinstance(segmentation, list):
        return ()
    parts = [part for part in segmentation if len(part) >= 6 and len(part) % 2 == 0]
    return tuple(tuple(zip(part[::2], part[1::2], strict=True)) for part in parts)


def _files(place: str, split: str) -> Iterator[Row]:
    top = Path(place)
    patterns = [f"{folder}instances*{split}*.json" for folder in ("", "annotations/")]
    path = find(top, patterns, f"boxes of the split {split!r}")
    instances = Instances.read(path)
    years = [f"{split}{year}" for year in ("2017", "2014", "")]
    pictures = PictureFolder((top,), [*years, *(f"images/{year}" for year in years), "images", "."])
    for thing in _only_ones(list(instances.annotations.values())):
        where = instances.places[thing.id]
        if thing.image_id not in instances.images or thing.category_id not in instances.categories:
            raise SampleError(
                f"{where}: picture {thing.image_id} or category {thing.category_id} is not in the "
                "file"
            )
        name = instances.categories[thing.category_id]
        yield row(
            where,
            id=str(thing.id),
            image=pictures.find(instances.images[thing.image_id].file_name),
            question=REGION + name,
            task="coco",
            boxes=(xyxy(thing.bbox),),
            polygons=outlines(thing.segmentation),
            metric="box",
        )


def _only_ones(things: Sequence[Annotation]) -> list[Annotation]:
    """The objects that are the only one of their category in their picture."""
    found: dict[tuple[int, int], list[Annotation]] = {}
    for thing in things:
        found.setdefault((thing.image_id, thing.category_id), []).append(thing)
    return [same[0] for same in found.values() if len(same) == 1 and not same[0].iscrowd]


class _Objects(Fields):
    category: list[int | str]
    bbox: list[tuple[float, float, float, float]]


class _HubRow(Fields):
    image_id: int
    objects: _Objects


def _hub(place: str, split: str) -> Iterator[Row]:
    """The mirror's boxes are x0, y0, x1, y1, unlike COCO's own."""
    table = Table(place, split)
    names = table.label_names("objects", "category")
    for where, index, columns in table.rows():
        fields = parse(_HubRow, columns, where)
        kinds = fields.objects.category
        if len(kinds) != len(fields.objects.bbox):
            raise SampleError(f"{where}: objects: {len(kinds)} categories for other boxes")
        for kind, box in zip(kinds, fields.objects.bbox, strict=True):
            if kinds.count(kind) == 1:
                name = names[kind] if names and isinstance(kind, int) else str(kind)
                yield row(
                    where,
                    picture=str(fields.image_id),
                    id=f"{fields.image_id}/{name}",
                    image=table.picture(index),
                    question=REGION + name,
                    task="coco",
                    boxes=(box,),
                    metric="box",
                )


BENCHMARKS = (
    Benchmark(
        name="coco",
        about="boxes of the only thing of its kind in a picture: Acc@0.5",
        metric="box",
        files=Layout(_files, "train", "val"),
        hub=Layout(_hub, "train", "val"),
        hub_id="detection-datasets/coco",
    ),
)
