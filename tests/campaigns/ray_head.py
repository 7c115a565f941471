"""A Ray cluster of one machine, in processes of its own, that can be killed and started again."""

import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_PATIENCE = 60.0
"""Seconds for a head to come up."""


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Head:
    """`ray start --head` on a port of its own, whose files are in `folder`.

    It is not that of other clusters on this machine: it asks for a token, which `environment` has.
    """

    folder: Path
    cpus: int
    port: int = field(default_factory=_free_port)
    environment: dict[str, str] = field(
        default_factory=lambda: {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    )
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What `--ray` is given."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        words += ["--port", str(self.port), "--num-cpus", str(self.cpus), "--disable-usage-stats"]
        words += ["--include-dashboard", "false", "--object-store-memory", str(100 * 2**20)]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*words, "--temp-dir", str(self.folder)],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + _PATIENCE
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no head:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def kill(self) -> None:
        """SIGKILL to all its processes, those of workers included."""
        if self.process is None:
            return
        with suppress(psutil.Error):
            first = psutil.Process(self.process.pid)
            for one in [first, *first.children(recursive=True)]:
                with suppress(psutil.Error):
                    one.kill()
        self.process.wait()
