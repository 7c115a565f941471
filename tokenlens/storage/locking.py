"""Directory lock: one writing process at a time."""

import os
from pathlib import Path
from types import ModuleType
from typing import Self

from tokenlens.errors import OutputError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows, where directories cannot be locked
    fcntl = None


class DirectoryLock:
    """Locks a directory, created where missing, until the lock is released or the process ends.

    A context manager that releases the lock. It is the operating system's own (`flock`), so that
    nothing remains however the process ends. Where the system or the file system has no such lock,
    nothing is locked.

    Raises `OutputError` where another writer holds it, or it cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        self._handle: int | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if fcntl is None:
                return
            self._handle = os.open(directory, os.O_RDONLY)
        except OSError as error:
            raise OutputError(
                f"cannot write {directory}: {error.strerror or error}; choose another place with "
                "--out"
            ) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise OutputError(
                f"another process is writing to {directory}; wait until it has ended, or choose "
                "another directory with --out"
            ) from error
        except OSError:  # a file system without locks
            self.release()

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        handle, self._handle = self._handle, None  # first, so that no signal comes between
        if handle is not None:
            os.close(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()
