"""The cluster that workers run on: used from a thread, watched from another.

Ray waits for minutes for a cluster that cannot be reached, and ends this process where one dies
that it was connected to. Here both raise an error within a known time.
"""

import atexit
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from threading import Event, Thread, current_thread, main_thread
from typing import Any

CONNECTING, SILENT = 60.0, 25.0
"""Seconds to wait for a cluster to connect to, and for a sign of life of a connected one. Ray ends
the process after 60 s without one."""
_REACHING = 10.0
"""Seconds in which something must answer at the address of a cluster."""
_BETWEEN = 2.0
"""Seconds between two signs of life."""
_CLOSING = 5.0
"""Seconds for Ray to close a connection to a cluster that is lost."""


@dataclass
class _Use:
    """One use of a cluster: what it gives, when it last gave a sign, and how late one may be."""

    bound: float
    found: Queue[Any] = field(default_factory=lambda: Queue(1))
    connected: Event = field(default_factory=Event)
    left: Event = field(default_factory=Event)
    sign: float = field(default_factory=time.monotonic)

    def fill(self, connect: Callable[[], None], results: Callable[[], Iterator[Any]]) -> None:
        """Connect, and hand on results until there are none, or nobody asks for more."""
        try:
            connect()
            self.connected.set()
            Thread(target=self.listen, daemon=True).start()
            for result in results():
                if not self._handed_on((result, None)):
                    return
            self._handed_on((None, StopIteration()))
        except BaseException as error:  # noqa: BLE001 - raised again where results are asked for
            self._handed_on((None, error))

    def _handed_on(self, entry: tuple[Any, BaseException | None]) -> bool:
        while not self.left.is_set():
            with suppress(Full):
                self.found.put(entry, timeout=0.5)
                return True
        return False

    def listen(self) -> None:
        """Note signs of life: the cluster answers, and knows the node of this process as alive.

        A head that was started anew does not know it.
        """
        import ray

        mine = ray.get_runtime_context().get_node_id()
        nodes: Callable[[], list[dict[str, Any]]] = ray.nodes
        self.sign, self.bound = time.monotonic(), SILENT
        while not self.left.wait(_BETWEEN):
            with suppress(Exception):
                if any(node["NodeID"] == mine and node["Alive"] for node in nodes()):
                    self.sign = time.monotonic()

    def next(self) -> Any:
        """The next result.

        Raises:
            StopIteration: There are no more.
            TimeoutError: The cluster gives no sign of life.
        """
        while True:
            if self.connected.is_set():
                self.connected.clear()
                _hear_signals()
            with suppress(Empty):
                result, error = self.found.get(timeout=0.5)
                if error is not None:
                    raise error
                return result
            if time.monotonic() - self.sign > self.bound:
                raise TimeoutError(f"no sign of life for {self.bound:.0f} seconds")


def _hear_signals() -> None:
    """Give SIGTERM back to Python, from which Ray takes it: it aborts the process after 3 s."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and current_thread() is main_thread():
        signal.signal(signal.SIGTERM, handler)


def used(connect: Callable[[], None], results: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """What `results` gives once `connect` is done; both run in a thread.

    Raises:
        TimeoutError: The cluster cannot be reached, or gives no sign of life any more.
    """
    use = _Use(bound=CONNECTING)
    Thread(target=use.fill, args=(connect, results), daemon=True).start()
    try:
        while True:
            try:
                result = use.next()
            except StopIteration:
                return
            yield result
    except TimeoutError:
        _leave()
        raise
    finally:
        use.left.set()


def prepare() -> None:
    """Set what Ray reads where it is imported, unless it is set."""
    # What Ray's C++ code says of lost clusters, in many lines, is said in one by `Workers`.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # A thread that asks on while this process ends must not start Ray again.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def connect(address: str | None, cpus: int) -> None:
    """Connect to the cluster at `address`, or start one with `cpus` here; once per process.

    Ray's processes on this machine end with the thread that has started them: it stays.
    """
    import ray

    if ray.is_initialized():
        return
    _reach(address or "")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        options |= {"num_cpus": cpus, "include_dashboard": False}
    ended: Queue[BaseException | None] = Queue()

    def stay() -> None:
        try:
            ray.init(address=address or "local", **options)
        except BaseException as error:  # noqa: BLE001 - raised again below
            ended.put(error)
        else:
            ended.put(None)
            Event().wait()

    Thread(target=stay, daemon=True).start()
    error = ended.get()
    if error is not None:
        raise error


def _reach(address: str, patience: float = _REACHING) -> None:
    """Raise `ConnectionError` where nothing answers at HOST:PORT; Ray asks for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    end = time.monotonic() + patience
    while host and port.isdigit():
        try:
            with socket.create_connection((host, int(port)), timeout=_REACHING):
                return
        except OSError as error:
            if time.monotonic() >= end:
                raise ConnectionError(f"no answer there: {error.strerror or error}") from error
        time.sleep(0.5)


def _leave() -> None:
    """Close the connection to a lost cluster: nothing of it holds up the end of this process."""
    import ray

    closing = Thread(target=ray.shutdown, daemon=True)
    closing.start()
    closing.join(_CLOSING)
    if closing.is_alive():
        atexit.unregister(ray.shutdown)
