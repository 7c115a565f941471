"""Parsers of answers in words: yes or no, or the letter of an option."""

import re

_FIRST = re.compile(r"\s*\(?([A-Z])(?:[.):,]|\s*$)")
_SAID = re.compile(r"(?i:answer is|answer:|option|choice) \(?([A-Z])\b(?! \w)")


def is_yes_in_pope(answer: str) -> bool:
    """Whether an answer counts as yes in POPE: its first sentence contains neither no nor not.

    The rule of AoiDragon/POPE `evaluate.py`: any other answer is a yes. Deviation: NO in capitals
    is a no here.

    >>> is_yes_in_pope("Yes, there is."), is_yes_in_pope("No."), is_yes_in_pope("There is not one")
    (True, False, False)
    """
    words = answer.split(".")[0].replace(",", "").split()
    return not {"no", "not"} & {word.casefold() for word in words}


def yes_or_no_in_mme(answer: str) -> str:
    """How an answer counts in MME: "yes", "no" or "other", by its first four characters.

    The rule of MME's `eval_tool/calculation.py`.

    >>> [yes_or_no_in_mme(answer) for answer in ("Yes, it is", "N", " no.", "It is", "")]
    ['yes', 'no', 'no', 'other', 'other']
    """
    text = answer.strip().lower()
    if text in ("y", "n"):
        return {"y": "yes", "n": "no"}[text]
    return "yes" if "yes" in text[:4] else "no" if "no" in text[:4] else "other"


def letter(answer: str) -> str | None:
    """The option that an answer names by its letter, or None.

    The letter comes first (`B`, `(B)`, `B. a cat`) or follows words such as "the answer is", as in
    the published scripts of ScienceQA and LLaVA.

    >>> [letter(text) for text in ("B", "(B) a cat", "B. a cat", "The answer is B.", "A cat")]
    ['B', 'B', 'B', 'B', None]
    """
    found = _FIRST.match(answer) or _SAID.search(answer)
    return found[1] if found else None
