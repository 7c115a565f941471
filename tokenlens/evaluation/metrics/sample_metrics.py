"""Metrics of single answers, each from 0 to 1.

Metrics of a set of answers (F1, accuracy⁺) are in `evaluation.metrics.set_metrics`. A malformed
answer scores 0 and never raises. A sample without ground truth scores NaN: it is reported, but not
counted.
"""

import unicodedata
from collections.abc import Callable
from math import nan

from tokenlens.errors import SampleError
from tokenlens.evaluation.metrics.answer_forms import is_yes_in_pope, letter, yes_or_no_in_mme
from tokenlens.evaluation.metrics.boxes import BoxReader, parse_box
from tokenlens.evaluation.metrics.vqa import soft_accuracy
from tokenlens.samples.metric_names import is_yes
from tokenlens.samples.sample import Box, Sample
from tokenlens.wording.suggest import one_of

THRESHOLD = 0.5
"""Least overlap of a box that counts as right: Acc@0.5, as on RefCOCO."""

_EDGES = (
    ".,;:!?\"'`()[]{}<>"
    "“”„‘’‚«»‹›…¿¡"  # noqa: RUF001
    "。、，．；：！？（）［］｛｝「」『』【】《》〈〉"  # noqa: RUF001
)
"""Punctuation around words, as Western and East Asian texts write it."""


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
    r"""An answer in lower case, without extra spaces or punctuation around words.

    Articles are kept. A letter and its accent are alike as one character and as two.

    >>> normalise("  The  Red circle. ")
    'the red circle'
    >>> normalise("3.5"), normalise("(-2)"), normalise("?")
    ('3.5', '-2', '?')
    >>> normalise("红色。"), normalise("“Red”"), normalise("cafe\u0301") == "caf\u00e9"
    ('红色', 'red', True)
    """
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", answer).casefold())
    words = (word.strip(_EDGES) for word in folded.split())
    return " ".join(word for word in words if word) or folded.strip()


def box_accuracy(
    prediction: str, sample: Sample, size: tuple[int, int], read_box: BoxReader = parse_box
) -> float:
    """1 where the predicted box has an IoU of at least 0.5 with the sample's first box, else 0.

    `size` is the (width, height) of the picture in pixels; `read_box` reads boxes as the model
    writes them. NaN for a sample without a box, or with several pictures: a box in an answer
    does not say which it is of.
    """
    if not sample.boxes or sample.more_images:
        return nan
    predicted = read_box(prediction)
    if predicted is None:
        return 0.0
    (x0, y0, x1, y1), (width, height) = sample.boxes[0], size
    truth = (x0 / width, y0 / height, x1 / width, y1 / height)
    return float(iou(predicted, truth) >= THRESHOLD)


def exact_match(prediction: str, sample: Sample, *_picture: object) -> float:
    """1 where the normalised prediction equals one of the normalised answers, else 0.

    NaN for a sample without answers. GQA's metric; case and outer punctuation are ignored.
    """
    if not sample.answers:
        return nan
    return float(normalise(prediction) in {normalise(answer) for answer in sample.answers})


def vqa_accuracy(prediction: str, sample: Sample, *_picture: object) -> float:
    """The soft accuracy of VQAv2 and TextVQA (`evaluation.metrics.vqa`); NaN without answers."""
    return soft_accuracy(prediction, sample.answers) if sample.answers else nan


def choice_accuracy(prediction: str, sample: Sample, *_picture: object) -> float:
    """1 where the prediction names the right option by its letter, or else by its text, else 0.

    The sample's answers are the letter and the text. MMBench asks ChatGPT where neither is found;
    here such an answer is wrong. NaN without answers.
    """
    if not sample.answers:
        return nan
    right, *texts = sample.answers
    named = letter(prediction)
    if named is not None:
        return float(named == right)
    return float(normalise(prediction) in {normalise(text) for text in texts})


def pope_accuracy(prediction: str, sample: Sample, *_picture: object) -> float:
    """1 where yes or no is right, as POPE reads answers, else 0; NaN without answers."""
    if not sample.answers:
        return nan
    return float(is_yes_in_pope(prediction) == is_yes(sample.answers[0]))


def mme_accuracy(prediction: str, sample: Sample, *_picture: object) -> float:
    """1 where yes or no is right, as MME reads answers, else 0; NaN without answers."""
    if not sample.answers:
        return nan
    right = "yes" if is_yes(sample.answers[0]) else "no"
    return float(yes_or_no_in_mme(prediction) == right)


def unscored(_prediction: str, _sample: Sample, *_picture: object) -> float:
    """NaN: the sample's answers and boxes are for people, and only agreement is measured."""
    return nan


Metric = Callable[[str, Sample, tuple[int, int], BoxReader], float]

METRICS: dict[str, Metric] = {
    "exact": exact_match,
    "box": box_accuracy,
    "vqa": vqa_accuracy,
    "choice": choice_accuracy,
    "mmbench": choice_accuracy,
    "pope": pope_accuracy,
    "mme": mme_accuracy,
    "none": unscored,
}
"""Metrics by the name that samples use."""
TASK_METRICS = {"localisation": "box", "deep-localisation": "box"}
"""Metric by task, for samples that name none; every other task is scored by `exact`."""
LOCALISATION_METRICS = {"box"}
"""Metrics of localisation: tables average tasks with these apart from all others."""


def metric_name(task: str, metric: str) -> str:
    """Name of the metric for samples of a task that name `metric`, which may be empty.

    >>> metric_name("localisation", ""), metric_name("text", ""), metric_name("text", "vqa")
    ('box', 'exact', 'vqa')
    """
    return metric or TASK_METRICS.get(task, "exact")


def find_metric(sample: Sample) -> Metric:
    """The metric of a sample; `SampleError` where it names an unknown metric."""
    name = metric_name(sample.task, sample.metric)
    if name not in METRICS:
        raise SampleError(
            f"sample {sample.id!r}: metric: got {name!r}, expected {one_of(name, METRICS)}"
        )
    return METRICS[name]


def score(
    prediction: str, sample: Sample, size: tuple[int, int], read_box: BoxReader = parse_box
) -> float:
    """The score of a prediction by its sample's metric: 0 to 1, or NaN without ground truth."""
    return find_metric(sample)(prediction, sample, size, read_box)
