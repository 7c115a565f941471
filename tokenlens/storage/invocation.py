"""The command line that is running, so that what it makes can say how it was made."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from tokenlens.wording.printable import is_control, printable

_CURRENT: ContextVar[tuple[str, ...] | None] = ContextVar("command", default=None)


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[None]:
    """Inside, `current_command` is this one: its words as typed, the program's name first."""
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
    """A word that UTF-8 can hold: bytes of a file name that are no text are written as escapes."""
    return word.encode("utf-8", "backslashreplace").decode("utf-8")


def shell_line(words: Sequence[object]) -> str:
    r"""A command line that a shell reads back as these words.

    >>> shell_line(["tokenlens", "profile", "--data", "my data.jsonl"])
    "tokenlens profile --data 'my data.jsonl'"
    >>> shell_line(["a\nb"])
    "$'a\\nb'"
    """
    return " ".join(map(_quoted, map(str, words)))


def _quoted(word: str) -> str:
    """Control characters are written as the escapes of `$'…'`, which bash and zsh read."""
    if not any(map(is_control, word)):
        return shlex.quote(word)
    inner = word.replace("\\", r"\\").replace("'", r"\'")
    return f"$'{printable(inner)}'"
