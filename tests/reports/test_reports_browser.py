"""The report in a real browser: nothing on the console, nothing on the network, nothing cut off."""

import pytest

from tests.support import synthetic
from tests.support.browser import IN_A_BROWSER
from tokenlens.reports.page import build_report

pytestmark = IN_A_BROWSER
HOSTILE = (
    "</script></style><img src=http://x.invalid/ onerror=window.harmed=1>\"'>"
    "<svg onload=window.harmed=1>"
)


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
    for _ in range(4):  # every sample, both views
        for view in ("map", "kept"):
            browser.evaluate(f"document.getElementById('ex-tab-{view}').click()")
        assert browser.evaluate("document.getElementById('ex-question').textContent") == HOSTILE
        assert HOSTILE in browser.evaluate("document.getElementById('ex-one').textContent")
        browser.evaluate(
            "(() => { const one = document.getElementById('ex-sample'); one.selectedIndex += 1; "
            "if (one.value) one.dispatchEvent(new Event('change')); })()"
        )
    assert browser.evaluate("[...document.images].every(one => one.naturalWidth > 0)")
    assert browser.complaints == []
    assert browser.requests == []
    assert browser.evaluate("window.harmed") is None


def test_a_page_that_complains_and_calls_out_is_noticed(browser, tmp_path):
    control = tmp_path / "control.html"
    control.write_text(
        "<!doctype html><img src=http://tokenlens.invalid/a.png>"
        "<script>console.error('no'); throw new Error('no')</script>"
    )
    browser.open(control, 1280, dark=False)
    assert browser.requests == ["http://tokenlens.invalid/a.png"]
    assert len(browser.complaints) >= 2
