"""The report in a real browser: nothing on the console, nothing on the network, nothing cut off.

Chromium is spoken to in the DevTools protocol over a pipe, which needs no port and no package.
"""

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest

from tests.support import synthetic
from tokenlens.reports.page import build_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium on this machine; install one to run these tests"
    ),
]
HOSTILE = (
    "</script></style><img src=http://x.invalid/ onerror=window.harmed=1>\"'>"
    "<svg onload=window.harmed=1>"
)
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

    def open(self, path, width: int, dark: bool) -> None:
        """Show a file at a width in CSS pixels, and wait until it has loaded."""
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
        self.evaluate("new Promise(done => setTimeout(done, 300))")

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


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """A whole report, every text in it hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    texts = {"question": HOSTILE, "answers": [HOSTILE], "task": HOSTILE}
    samples = [{**synthetic.sample(i, folder / "pictures"), **texts} for i in range(4)]
    samples = [{**sample, "id": f"{HOSTILE}{i}"} for i, sample in enumerate(samples)]
    schedule = synthetic.schedule(method=HOSTILE)
    profile = synthetic.write_profile(folder / "profile", samples)
    results = synthetic.write_results(
        folder / "results", samples, {HOSTILE: schedule}, prediction=HOSTILE
    )
    return build_report(profile, schedule, results, folder / "report", pictures=2).html


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_is_quiet_offline_and_whole(browser, html, width, dark):
    browser.open(html, width, dark)
    assert browser.complaints == []
    assert browser.requests == []
    assert browser.evaluate("window.harmed") is None
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.images.length") >= 6
    assert browser.evaluate("[...document.images].every(one => one.naturalWidth > 0)")


def test_a_page_that_complains_and_calls_out_is_noticed(browser, tmp_path):
    control = tmp_path / "control.html"
    control.write_text(
        "<!doctype html><img src=http://tokenlens.invalid/a.png>"
        "<script>console.error('no'); throw new Error('no')</script>"
    )
    browser.open(control, 1280, dark=False)
    assert browser.requests == ["http://tokenlens.invalid/a.png"]
    assert len(browser.complaints) >= 2
