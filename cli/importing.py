"""Imports of what takes long: torch, transformers and what stands on them."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import inside without looking for garbage, and leave what was imported out of later looks.

    Modules, classes and functions stay to the end; going through them while more of them are made
    is a quarter of the time that torch and transformers take to import.

    >>> before = gc.isenabled()
    >>> with importing():
    ...     gc.isenabled()
    False
    >>> gc.isenabled() == before
    True
    """
    known, collected = len(sys.modules), gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if collected:
            gc.enable()
