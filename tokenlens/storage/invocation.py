"""The running command line, recorded so that output files can name the command that made them."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from tokenlens.wording.printable import is_control, printable

_CURRENT: ContextVar[tuple[str, ...] | None] = ContextVar("command", default=None)


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[None]:
    """Set `current_command` inside the context: the words as typed, the program's name first."""
    token = _CURRENT.set(tuple(map(_text, arguments)))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_command() -> tuple[str, ...] | None:
    """The words of the command that is running; None in a Python program."""
    words = _CURRENT.get()
    return None if words is None else tuple(words)


def _text(word: str) -> str:
    """A word as valid UTF-8: bytes of a file name that are not text are written as escapes."""
    return word.encode("utf-8", "backslashreplace").decode("utf-8")


def shell_line(words: Sequence[object]) -> str:
    r"""A command line that a shell splits into these words.

    >>> shell_line(["tokenlens", "profile", "--data", "my data.jsonl"])
    "tokenlens profile --data 'my data.jsonl'"
    >>> shell_line(["a\nb"])
    "$'a\\nb'"
    """
    return " ".join(map(_quoted, map(str, words)))


def _quoted(word: str) -> str:
    """A word in quotes; control characters become escapes of `$'…'`, which bash and zsh read."""
    if not any(map(is_control, word)):
        return shlex.quote(word)
    inner = word.replace("\\", r"\\").replace("'", r"\'")
    return f"$'{printable(inner)}'"
