"""What an answer is worth: one metric per task, each 0 to 1 per sample.

A malformed answer scores 0 and never raises; a sample without ground truth scores NaN, so that it
is reported rather than counted.
"""

import re
from collections.abc import Callable
from math import nan

from tokenlens.samples.sample import Box, Sample

THRESHOLD = 0.5
"""Overlap from which a box counts as found: Acc@0.5, as on RefCOCO."""

_CORNER = r"\(\s*([0-9]{1,4})\s*,\s*([0-9]{1,4})\s*\)"
_BOX = re.compile(_CORNER + r"\s*,?\s*" + _CORNER)
_EDGES = ".,;:!?\"'`()[]{}<>"


def parse_box(answer: str) -> Box | None:
    """The first box in an answer of Qwen2-VL, as fractions (x0, y0, x1, y1) of the picture.

    Qwen2-VL writes `(x1,y1),(x2,y2)` in thousandths of the picture; spaces and the special tokens
    around it are optional. None where there is no such box, or it is inverted, empty or outside.

    >>> parse_box("<|box_start|>(125,208),(375,458)<|box_end|>")
    (0.125, 0.208, 0.375, 0.458)
    >>> parse_box("(125, 208) (375, 458)") == parse_box("at (125,208),(375,458).")
    True
    >>> parse_box("(375,458),(125,208)") is parse_box("upper left") is None
    True
    """
    found = _BOX.search(answer)
    if found is None:
        return None
    x0, y0, x1, y1 = (int(number) / 1000 for number in found.groups())
    return (x0, y0, x1, y1) if x0 < x1 <= 1 and y0 < y1 <= 1 else None


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1) of positive area.

    >>> iou((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    return shared / (_area(a) + _area(b) - shared)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def normalise(answer: str) -> str:
    """An answer without case, spare spaces, or punctuation around its words; articles stay.

    >>> normalise("  The  Red circle. ")
    'the red circle'
    >>> normalise("3.5"), normalise("(-2)"), normalise("?")
    ('3.5', '-2', '?')
    """
    words = (word.strip(_EDGES) for word in answer.casefold().split())
    return " ".join(word for word in words if word) or answer.strip().casefold()


def box_accuracy(prediction: str, sample: Sample, size: tuple[int, int]) -> float:
    """1 where the predicted box has an IoU of at least 0.5 with the sample's first box, else 0.

    `size` is the (width, height) of the picture in pixels. NaN for a sample without a box.
    """
    if not sample.boxes:
        return nan
    predicted = parse_box(prediction)
    if predicted is None:
        return 0.0
    (x0, y0, x1, y1), (width, height) = sample.boxes[0], size
    truth = (x0 / width, y0 / height, x1 / width, y1 / height)
    return float(iou(predicted, truth) >= THRESHOLD)


def exact_match(prediction: str, sample: Sample, _size: tuple[int, int]) -> float:
    """1 where the normalised prediction equals one of the normalised answers, else 0.

    NaN for a sample without answers.
    """
    if not sample.answers:
        return nan
    return float(normalise(prediction) in {normalise(answer) for answer in sample.answers})


Metric = Callable[[str, Sample, tuple[int, int]], float]

METRICS: dict[str, Metric] = {"localisation": box_accuracy, "deep-localisation": box_accuracy}
"""Task to its metric; every other task is scored by `exact_match`."""


def score(prediction: str, sample: Sample, size: tuple[int, int]) -> float:
    """A prediction's worth by the metric of its task: 0 to 1, or NaN without ground truth."""
    return METRICS.get(sample.task, exact_match)(prediction, sample, size)
