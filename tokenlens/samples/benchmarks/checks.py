"""Checks of every benchmark's samples, independent of the reader."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from PIL import Image

from tokenlens.errors import SampleError
from tokenlens.samples.benchmarks.benchmark import Row
from tokenlens.samples.pictures import StoredPicture, picture_size
from tokenlens.samples.sample import Sample, check_regions
from tokenlens.samples.subset import choose_subset
from tokenlens.storage.files import hash_json

_OVERSHOOT = 2.0
"""Pixels by which published boxes and outlines may overshoot their picture; they are cut to it."""


def checked(rows: Iterable[Row], limit: int | None) -> tuple[list[Sample], str]:
    """The first `limit` samples, and a hash of their questions and of their pictures' sizes.

    Ids are checked over all rows; pictures (by their headers) and regions only of the samples
    taken.

    Raises:
        SampleError: an id used twice, a picture that is missing or damaged, or a region outside
            its picture; the message names the row's place.
    """
    listed = list(rows)
    places: dict[str, str] = {}
    for place, sample, _ in listed:
        if sample.id in places:
            raise SampleError(f"{place}: id {sample.id!r} was used in {places[sample.id]} already")
        places[sample.id] = place
    sizes: dict[Path | StoredPicture, tuple[int, int]] = {}
    samples, content = [], []
    for index in choose_subset([row.sample for row in listed], limit):
        place, sample, _ = listed[index]
        image = sample.image
        try:
            if image is None or isinstance(image, Image.Image) or sample.more_images:
                raise SampleError("a reader gives the place of one picture for each sample")
            if image not in sizes:
                sizes[image] = picture_size(image)
            size = sizes[image]
            sample = _fitted(sample, size)
            check_regions(sample, size)
        except SampleError as error:
            raise SampleError(f"{place}: {error}") from error
        samples.append(sample)
        name = image.name if isinstance(image, Path) else ""
        content.append([sample.id, sample.question, sample.answers, sample.boxes, name, size])
    return samples, hash_json(content)


def _fitted(sample: Sample, size: tuple[int, int]) -> Sample:
    """The sample with regions clipped that exceed its picture by a little."""
    width, height = size

    def inside(value: float, most: int) -> float:
        near = -_OVERSHOOT <= value <= most + _OVERSHOOT
        return min(max(value, 0.0), float(most)) if near else value

    return replace(
        sample,
        boxes=tuple(
            (inside(x0, width), inside(y0, height), inside(x1, width), inside(y1, height))
            for x0, y0, x1, y1 in sample.boxes
        ),
        polygons=tuple(
            tuple((inside(x, width), inside(y, height)) for x, y in outline)
            for outline in sample.polygons
        ),
    )
