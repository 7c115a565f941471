"""Names of the metrics that samples may name, and the answers that each can score.

The metrics themselves are in `evaluation.metrics`. The names are here so that a manifest with a
wrong one is refused when it is read.
"""

from collections.abc import Sequence
from string import ascii_uppercase

METRIC_NAMES = ("exact", "box", "vqa", "choice", "mmbench", "pope", "mme", "none")
_YES_OR_NO = ("pope", "mme")
_CHOICES = ("choice", "mmbench")


def is_yes(answer: str) -> bool:
    """Whether a right answer of yes or no is yes, in any case.

    >>> is_yes("Yes"), is_yes("no")
    (True, False)
    """
    return answer.strip().casefold() == "yes"


def unfit_answers(metric: str, answers: Sequence[str]) -> str | None:
    """What a metric expects of the right answers where it cannot score by these; else None.

    >>> unfit_answers("pope", ["Yes"]), unfit_answers("exact", ["a cat"])
    (None, None)
    >>> unfit_answers("mme", ["true"])
    'yes or no'
    """
    if not answers:
        return None
    if metric in _YES_OR_NO:
        said = {answer.strip().casefold() for answer in answers}
        return None if said in ({"yes"}, {"no"}) else "yes or no"
    if metric in _CHOICES and answers[0] not in tuple(ascii_uppercase):
        return 'the letter of the right option, then its text, such as ["B", "a cat"]'
    return None
