"""Check that a checkpoint's chat template ends: it is rendered once, with limits, before use.

A template is a program by the checkpoint's author, which transformers runs in Jinja's sandbox. The
sandbox protects the machine's files, but does not limit time or memory.
"""

import operator
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import _compile_jinja_template

from tokenlens.errors import ModelError

_LIMIT_S = 3.0
_LIMIT_CHARACTERS = 2**22
_CONVERSATION = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is there ?"}]}
]


class _Excess(Exception):  # noqa: N818 - says by how much the template is too much, not a fault here
    """The template exceeds a limit."""


def check_template(template: str, folder: Path) -> None:
    """Render one short conversation as a check.

    Raises `ModelError` where it fails, takes more than 3 seconds or more than 4 Mi characters.
    """
    try:
        with _deadline(_LIMIT_S):
            _render(template)
    except _Excess as excess:
        reason = f"it needs more than {excess} for one short question"
    except TemplateError as error:
        reason = " ".join(str(error).split())[:200]
    except (ArithmeticError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as e:
        reason = f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
    else:
        return
    raise ModelError(
        f"{folder}: the chat template is broken: {reason}; mend it, or take that of the original "
        "checkpoint"
    )


def _render(template: str) -> None:
    """Render as transformers does, with limits on the size of every product and text."""
    environment: Any = _compile_jinja_template(template).environment.overlay()
    environment.intercepted_binops = frozenset(_LIMITED)
    environment.binop_table = {**environment.binop_table, **_LIMITED}
    length = 0
    compiled = environment.from_string(template)
    for piece in compiled.generate(messages=_CONVERSATION, add_generation_prompt=True):
        length += len(piece)
        if length > _LIMIT_CHARACTERS:
            raise _Excess(f"{_LIMIT_CHARACTERS:,} characters")


def _limited(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def apply(first: Any, second: Any) -> Any:
        sizes = [len(one) if hasattr(one, "__len__") else abs(one) for one in (first, second)]
        of_texts = any(hasattr(one, "__len__") for one in (first, second))
        if of_texts and sizes[0] * sizes[1] > _LIMIT_CHARACTERS:
            raise _Excess(f"{_LIMIT_CHARACTERS:,} characters")
        if operation is operator.pow and sizes[1] > 64:
            raise _Excess("a power of 64")
        return operation(first, second)

    return apply


_LIMITED = {"*": _limited(operator.mul), "**": _limited(operator.pow)}


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise `_Excess` in the code below once `seconds` are over, at its next line of Python."""
    end, before = time.monotonic() + seconds, sys.gettrace()

    def watch(_frame: FrameType, _event: str, _argument: Any) -> Any:
        if time.monotonic() > end:
            raise _Excess(f"{seconds:g} seconds")
        return watch

    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)
