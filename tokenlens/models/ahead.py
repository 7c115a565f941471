"""Batches prepared by a thread of their own while the model works on the one before."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from copy import copy, deepcopy
from threading import Thread
from typing import Any, TypeVar

from tokenlens.models.vlm import VLM

Item = TypeVar("Item")
Made = TypeVar("Made")
_NONE: Any = object()
"""What there is after the last."""


def prepared_ahead(
    vlm: VLM, prepare: Callable[[VLM, Item], Made], items: Iterable[Item]
) -> Iterator[Made]:
    """What `prepare` makes of every item, in order, the next one while the caller uses the last.

    It is given a model like `vlm` with a processor of its own, since a tokenizer serves one thread
    at a time. Models whose weights accelerate moves about are not read from a second thread: their
    batches are prepared when it is their turn.
    """
    if getattr(vlm.model, "hf_device_map", None) is not None:
        return (prepare(vlm, item) for item in items)
    apart = copy(vlm)
    apart.processor = deepcopy(vlm.processor)
    return made_ahead(lambda item: prepare(apart, item), items)


def made_ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """What `make` gives for every item, in order; the next is made while the last one is used.

    So there are two at a time, no more. An error of `make`, or of `items`, is raised at its item's
    turn. Where the caller stops, by an error or Ctrl-C, the one that is being made is not waited
    for.

    >>> list(made_ahead(str, [1, 2, 3]))
    ['1', '2', '3']
    """
    left = map(make, items)
    coming = _begin(left)
    while (made := coming.result()) is not _NONE:
        coming = _begin(left)
        yield made
        del made  # the caller has done with it, and the next may be as large


def _begin(left: Iterator[Made]) -> "Future[Made]":
    """Make the next, `_NONE` where there is none, in a thread that the program's end leaves."""
    future: Future[Made] = Future()

    def work() -> None:
        try:
            future.set_result(next(left, _NONE))
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is taken
            future.set_exception(error)

    Thread(target=work, daemon=True).start()
    return future
