"""Wording of the benchmarks' questions for a model."""

from collections.abc import Mapping

SHORT = "\nAnswer the question using a single word or phrase."
"""Ends a question with a short answer (LLaVA 1.5, haotian-liu/LLaVA `docs/Evaluation.md`)."""
LETTER = "\nAnswer with the option's letter from the given choices directly."
"""Ends a question with options (the same source)."""
REGION = "Please provide the bounding box coordinate of the region this sentence describes: "
"""Begins a question for a box (LLaVA 1.5's training data; lmms-eval's `refcoco_*_bbox_rec`, which
asks for fractions as well: left out here, since every family has a format of its own)."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def with_options(question: str, options: Mapping[str, str], hint: str = "") -> str:
    r"""A question with its options by letter, after a hint where there is one.

    >>> print(with_options("Which?", {"A": "a cat", "B": "a dog"}))
    Which?
    A. a cat
    B. a dog
    Answer with the option's letter from the given choices directly.
    """
    lines = [*filter(None, [hint]), question]
    lines += [f"{letter}. {option}" for letter, option in options.items()]
    return "\n".join(lines) + LETTER
