"""Chromium, spoken to in the DevTools protocol over a pipe, which needs no port and no package."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
IN_A_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium on this machine; install one to run these tests"
    ),
]
PATIENCE_S = 120


class Browser:
    """A Chromium with one page open."""

    def __init__(self, commands: int, events: int) -> None:
        self._commands, self._events = commands, events
        self._buffer, self._count, self._session = b"", 0, None
        self.seen: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters):
        """Send a command and wait for its result; events that come meanwhile are kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, path, width: int, dark: bool, *, scripts: bool = True) -> None:
        """Show a file at a width in CSS pixels, and wait until it has loaded."""
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.seen.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.seen):
            self._next()
        time.sleep(0.3)
        self.evaluate("0")  # what came meanwhile is read

    def evaluate(self, expression: str):
        """The value of a JavaScript expression in the page."""
        result = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        return result["result"].get("value")

    @property
    def requests(self) -> list[str]:
        """Addresses that were asked for, other than the page and what it holds itself."""
        sent = [e["params"] for e in self.seen if e["method"] == "Network.requestWillBeSent"]
        urls = [one["request"]["url"] for one in sent if one.get("type") != "Document"]
        return [url for url in urls if not url.startswith("data:")]

    @property
    def complaints(self) -> list[str]:
        """What was said on the console, and exceptions."""
        methods = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [json.dumps(event) for event in self.seen if event["method"] in methods]

    def _next(self) -> dict:
        deadline = time.monotonic() + PATIENCE_S
        while b"\0" not in self._buffer:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self._events], [], [], left)[0], "Chromium does not answer"
            chunk = os.read(self._events, 1 << 16)
            assert chunk, "Chromium has ended"
            self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        answer = json.loads(message)
        if "method" in answer:
            self.seen.append(answer)
        return answer


@contextmanager
def chromium(folder):
    """Start Chromium, which reads commands from file descriptor 3 and answers on 4."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    high = [fcntl.fcntl(number, fcntl.F_DUPFD, 20) for number in (theirs_in, theirs_out)]
    process = subprocess.Popen(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-dev-shm-usage",
            "--no-first-run",
            f"--user-data-dir={folder}",
            "--remote-debugging-pipe",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(3, 4),
        preexec_fn=lambda: (os.dup2(high[0], 3), os.dup2(high[1], 4)),
    )
    for number in (theirs_in, theirs_out, *high):
        os.close(number)
    try:
        yield Browser(ours_out, ours_in)
    finally:
        process.kill()
        process.wait()
        os.close(ours_out)
        os.close(ours_in)


def hovered(browser: Browser, frame: str, value: str) -> list[str]:
    """What the element `value` says while the pointer is over each of a map's 6 x 6 tokens."""
    found: list[str] = browser.evaluate(
        f"""(() => {{
          const frame = document.querySelector({json.dumps(frame)});
          const box = frame.getBoundingClientRect();
          const found = [];
          for (let y = 0; y < 6; y += 1) for (let x = 0; x < 6; x += 1) {{
            frame.dispatchEvent(new PointerEvent('pointermove', {{
              clientX: box.left + (x + .5) * box.width / 6,
              clientY: box.top + (y + .5) * box.height / 6 }}));
            found.push(document.querySelector({json.dumps(value)}).textContent);
          }}
          return found;
        }})()"""
    )
    return found
