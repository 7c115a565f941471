"""lmms-eval's requests as samples: what is asked about which pictures, and how it is answered.

A request's arguments are (context, generation options, pictures of a row, row, task, split).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from PIL.Image import Image

from tokenlens.errors import OptionError, SampleError
from tokenlens.samples.sample import Sample

MOST_NEW_TOKENS = 1024
"""Tokens after which an answer is cut off where the task does not say."""
PLACEHOLDER = "<image>"
"""Where tasks say that a picture goes; tokenlens puts pictures before the question."""
_GREEDY: dict[str, tuple[Any, ...]] = {
    "do_sample": (False, None),
    "temperature": (0, None),
    "num_beams": (1, None),
    "repetition_penalty": (1, None),
    "no_repeat_ngram_size": (0, None),
    "num_return_sequences": (1, None),
    "n": (1, None),
}
"""Values that mean greedy decoding."""


@dataclass(frozen=True)
class Decoding:
    """How a request is answered, by greedy decoding.

    Attributes:
        max_new_tokens: Tokens after which the answer is cut off.
        until: Texts at which it ends; they are not part of it.
    """

    max_new_tokens: int = MOST_NEW_TOKENS
    until: tuple[str, ...] = ()

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """The options of a task.

        Raises:
            OptionError: It asks for sampling, beams or penalties.

        >>> Decoding.of({"max_new_tokens": 8, "temperature": 0, "until": ["."]}).until
        ('.',)
        """
        for key, allowed in _GREEDY.items():
            if key in options and options[key] not in allowed:
                raise OptionError(
                    f"the task asks for {key}={options[key]}, but tokenlens answers by greedy "
                    f"decoding alone; give --gen_kwargs {key}={allowed[0]}"
                )
        until = options.get("until") or ()
        most = options.get("max_new_tokens") or MOST_NEW_TOKENS
        return cls(int(most), (until,) if isinstance(until, str) else tuple(until))

    def cut(self, text: str) -> str:
        """The answer up to the first text that ends it, without white space around it.

        >>> Decoding(8, (".", ";")).cut("a cat; more.")
        'a cat'
        """
        ends = [text.index(end) for end in self.until if end and end in text]
        return text[: min(ends, default=len(text))].strip()


def sample_of(
    arguments: Sequence[Any], rows: Mapping[str, Mapping[str, Sequence[Any]]]
) -> tuple[Sample, Decoding]:
    """A request's question with its pictures, and how it is answered.

    Args:
        arguments: Those of the request.
        rows: All rows by task and split.

    Raises:
        SampleError: Its pictures are videos or files, or the question is empty.
    """
    context, options, pictures_of, row, task, split = arguments
    name = f"{task}/{split}/{row}"
    pictures = _pictures(pictures_of, rows[task][split][row], name)
    sample = Sample(
        id=name,
        image=pictures[0] if pictures else None,
        question=context.replace(PLACEHOLDER, "").strip(),
        more_images=tuple(pictures[1:]),
        text_only=not pictures,
    )
    return sample, Decoding.of(options)


def _pictures(find: Callable[[Any], Any], row: Any, name: str) -> list[Image]:
    """The pictures of a row, one after another, whether the task gives one, a list or none."""
    found = find(row)
    flat = found if isinstance(found, list | tuple) else [found]
    if len(flat) == 1 and isinstance(flat[0], list | tuple):
        flat = flat[0]
    pictures = [one for one in flat if one is not None]
    for one in pictures:
        if not isinstance(one, Image):
            raise SampleError(
                f"{name}: the task gives {type(one).__name__} {str(one)[:60]!r}, expected "
                "pictures; tokenlens_wrapped takes what lmms-eval's own models take"
            )
    return pictures
