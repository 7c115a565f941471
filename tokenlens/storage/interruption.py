"""Orderly end of a command that is stopped by a signal: computed rows are written first."""

import os
import signal
import sys
import time
from _thread import start_new_thread
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

INTERRUPTED, PIPE_CLOSED = 130, 141
"""Exit codes of a command that SIGINT ended, or whose reader went away: 128 and the signal."""
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
ENDED = frozenset({INTERRUPTED, *(128 + number for number in _SIGNALS)})
"""Exit codes of a command that was told to end and that can go on."""

_AGAIN = 0.05
"""Seconds after which a signal is sent again that was lost: enough to leave where it was."""


@contextmanager
def orderly_end() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end a command as Ctrl-C does: open rows are written.

    Schedulers send SIGTERM; a terminal that is closed sends SIGHUP. A signal that is ignored, as
    under `nohup`, stays ignored. A signal that arrives where Python discards exceptions (in a
    destructor or a weak reference's callback) is sent again.
    """
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    handled = [number for number in _SIGNALS if handlers[number] is not signal.SIG_IGN]

    def end(number: int, _: object) -> NoReturn:
        for one in _SIGNALS:
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(128 + number)

    def listen() -> None:
        for number in handled:
            signal.signal(number, end)

    def again(number: int) -> None:
        time.sleep(_AGAIN)
        os.kill(os.getpid(), number)

    def ignored(unraisable: "sys.UnraisableHookArgs") -> None:
        code = end_code(unraisable.exc_value)
        if code is None:
            hook(unraisable)
            return
        listen()
        start_new_thread(again, (code - 128,))

    hook, sys.unraisablehook = sys.unraisablehook, ignored
    listen()
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler)


def end_code(error: BaseException | None) -> int | None:
    """The exit code of a command that a signal ended; None where `error` has another cause.

    A signal may arrive anywhere, and some places turn its exception into another one: Python 3.11
    does so where a class sets its names, that is, while modules are imported.
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code in ENDED:
            return error.code
        error = error.__cause__
    return None


def pipe_was_closed(error: BaseException) -> bool:
    """Whether `error` comes from writing to a closed pipe, as when `head` has read enough."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, BrokenPipeError):
            return True
        seen = seen.__context__
    return False


def end_quietly() -> NoReturn:
    """End as commands do whose output pipe was closed: without a message, with exit code 141."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(null, stream.fileno())
    raise SystemExit(PIPE_CLOSED)
