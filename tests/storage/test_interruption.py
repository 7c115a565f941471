"""How a command that gets a signal ends, wherever the signal meets it."""

import os
import signal
import time
import weakref
from collections.abc import Iterator

import pytest

from tokenlens.storage.interruption import end_code, orderly_end


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Python's own handlers, also where the tests themselves run in the background."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Thing:
    pass


def killed_in_a_callback(number: signal.Signals) -> None:
    """The signal's exception is raised where Python prints exceptions and goes on."""
    thing = Thing()
    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), number))
    del thing
    assert reference() is None
    time.sleep(5)
    pytest.fail("the command went on")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_within_a_callback_ends_the_command(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, orderly_end():
        killed_in_a_callback(number)
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) is before
    assert "Traceback" not in capsys.readouterr().err


def test_ctrl_c_within_a_callback_interrupts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), orderly_end():
        killed_in_a_callback(signal.SIGINT)
    assert "Traceback" not in capsys.readouterr().err


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with orderly_end():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_end_is_known_behind_what_was_made_of_it() -> None:
    wrapped = RuntimeError("Error calling __set_name__")
    assert end_code(wrapped) is None
    wrapped.__cause__ = SystemExit(143)
    assert end_code(wrapped) == 143
    wrapped.__cause__ = KeyboardInterrupt()
    assert end_code(wrapped) == 130
    assert end_code(SystemExit(2)) is None
