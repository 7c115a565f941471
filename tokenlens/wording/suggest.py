"""Suggestions for names that are not known."""

import difflib
from collections.abc import Iterable


def one_of(name: str, known: Iterable[str]) -> str:
    """The known names and the most similar one, for an error message.

    >>> one_of("recal", ["iou", "recall"])
    "one of iou, recall (did you mean 'recall'?)"
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"one of {', '.join(names)}" + (f" (did you mean {near[0]!r}?)" if near else "")
