"""Collection of garbage while much is drawn."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_OBJECTS = 50_000
"""New objects after which the collector looks for circles among them."""


@contextmanager
def collecting_less() -> Iterator[None]:
    """Context in which the collector leaves what is there alone, and comes by less often.

    A figure is some ten thousand objects that live for a moment, among a hundred thousand of
    modules that stay; looking through all of them took a tenth of a report's time. What the caller
    has frozen stays so, and then nothing more is.
    """
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    if not frozen:
        gc.freeze()
    gc.set_threshold(_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if not frozen:
            gc.unfreeze()
