"""Choice of the samples whose pictures a report shows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from tokenlens.evaluation.running.results import Results

_ABOUT = ("task", "image", "boxes", "region_boxes", "polygons")


@dataclass(frozen=True)
class Candidate:
    """A sample that can be shown: its index, its task, its picture, and whether it has a region."""

    place: int
    task: str
    image: str
    has_region: bool


def candidates(results: Results) -> Iterator[Candidate]:
    """The samples of some results that have visual tokens, all of them placed in pictures."""
    for part in results.parts(_ABOUT):
        columns = zip(part.index, *(part[name] for name in _ABOUT), strict=True)
        for place, task, image, boxes, regions, polygons in columns:
            if len(boxes) and np.isfinite(boxes).all():
                yield Candidate(int(place), task, image, len(regions) + len(polygons) > 0)


def choose_samples(candidates: Iterable[Candidate], count: int) -> list[int]:
    """Indices of `count` samples: tasks in turn, new pictures first, samples with a region first.

    >>> scenes = [Candidate(i, task, f"{i // 2}.jpg", True) for i, task in enumerate("abab")]
    >>> choose_samples(scenes, 2), choose_samples(scenes, 9)
    ([0, 3], [0, 3, 2, 1])
    """
    queues: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda one: not one.has_region):
        queues.setdefault(candidate.task, []).append(candidate)
    chosen: list[int] = []
    images: set[str] = set()
    while len(chosen) < count and any(queues.values()):
        for queue in queues.values():
            if queue and len(chosen) < count:
                best = next((one for one in queue if one.image not in images), queue[0])
                queue.remove(best)
                images.add(best.image)
                chosen.append(best.place)
    return chosen
