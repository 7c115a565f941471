"""The page of `tokenlens show` in a real browser: its controls, and that it is quiet and whole."""

import json

import pytest

from tests.reports.test_show import data_of, maps_of
from tests.support.browser import IN_A_BROWSER, hovered
from tests.support.show import HOSTILE, made_up
from tokenlens.reports.show_page import show_page

pytestmark = IN_A_BROWSER


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("show") / "page.html"
    path.write_text(show_page([made_up(), made_up(words=2)], "a model"), encoding="utf-8")
    return path


def text(browser, selector):
    return browser.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")


def shown(browser):
    """What the first photograph's map shows: its title, and its values by token."""
    return text(browser, ".what"), hovered(browser, ".frame", ".value")


def expected(page, word, layer, head):
    """The same from the numbers that are stored in the page."""
    values = maps_of(data_of(page.read_text())[0])[word, layer - 1, head]
    return [f"token {at + 1}: {percent(value)}" for at, value in enumerate(values)]


def percent(share):
    """Three figures, and small numbers with a power of ten."""
    number = float(f"{100 * share:.3g}")
    if number == 0 or number >= 0.001:
        return f"{number:g} %"
    digits, power = f"{number:.2e}".split("e-")
    raised = "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(sign)] for sign in str(int(power)))
    return f"{float(digits):g} \N{MULTIPLICATION SIGN} 10⁻{raised} %"


def press(browser, key):
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)


def test_words_layers_and_heads_show_the_stored_numbers(browser, page):
    browser.open(page, 1280, dark=False)
    assert shown(browser) == ("“word0” · layer 3 · mean of heads", expected(page, 0, 3, 0))
    browser.evaluate("document.querySelectorAll('.words button')[1].click()")
    assert shown(browser) == ("“word1” · layer 3 · mean of heads", expected(page, 1, 3, 0))
    browser.evaluate(
        "(() => { const one = document.querySelector('.layer'); one.value = 5; "
        "one.dispatchEvent(new Event('input')); })()"
    )
    assert shown(browser) == ("“word1” · layer 5 · mean of heads", expected(page, 1, 5, 0))
    browser.evaluate(
        "(() => { const one = document.querySelector('select.head'); one.value = '2'; "
        "one.dispatchEvent(new Event('change')); })()"
    )
    assert shown(browser) == ("“word1” · layer 5 · head 2", expected(page, 1, 5, 2))
    assert browser.evaluate("document.querySelectorAll('[aria-pressed=true]').length") == 2
    top = maps_of(data_of(page.read_text())[0])[1, 4, 2].max()
    assert text(browser, ".top-value") == percent(top)
    assert browser.complaints == []


def test_arrow_keys_move_the_layer_of_the_photograph_in_hand(browser, page):
    browser.open(page, 1280, dark=False)
    press(browser, "ArrowRight")
    press(browser, "ArrowRight")
    press(browser, "ArrowLeft")
    assert text(browser, ".layer-number") == "4"
    browser.evaluate("document.querySelectorAll('.layer')[1].focus()")
    press(browser, "ArrowRight")
    numbers = "[...document.querySelectorAll('.layer-number')].map(one => one.textContent)"
    assert browser.evaluate(numbers) == ["4", "4"]
    for _ in range(9):
        browser.evaluate("document.querySelector('.words button').focus()")
        press(browser, "ArrowRight")
    assert text(browser, ".layer-number") == "6", "the last layer is the last"


def test_all_heads_stand_side_by_side(browser, page):
    browser.open(page, 1280, dark=False)
    browser.evaluate(
        "(() => { const one = document.querySelector('select.head'); one.value = 'all'; "
        "one.dispatchEvent(new Event('change')); })()"
    )
    assert (
        browser.evaluate("document.querySelectorAll('.case:first-of-type .heads canvas').length")
        == 2
    )
    browser.evaluate("document.querySelectorAll('.heads button')[1].click()")
    assert text(browser, ".what").endswith("head 2")


def test_the_brightest_pixel_is_the_largest_value(browser, page):
    browser.open(page, 1280, dark=False)
    alpha = browser.evaluate(
        "[...document.querySelector('.map').getContext('2d').getImageData(0, 0, 6, 6).data]"
        ".filter((_, at) => at % 4 === 3)"
    )
    values = maps_of(data_of(page.read_text())[0])[0, 2, 0]
    assert alpha.index(max(alpha)) == values.argmax()
    assert sorted(range(36), key=lambda at: alpha[at])[0] == values.argmin()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_quiet_offline_and_whole(browser, tmp_path, width, dark):
    path = tmp_path / "hostile.html"
    path.write_text(show_page([made_up(text=HOSTILE)], HOSTILE, HOSTILE), encoding="utf-8")
    browser.open(path, width, dark)
    assert browser.complaints == []
    assert browser.requests == []
    assert browser.evaluate("window.harmed") is None
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("[...document.images].every(one => one.naturalWidth > 0)")
    assert text(browser, "h1") == HOSTILE
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(13, 17, 23)" if dark else "rgb(246, 247, 249)")


def test_without_scripts_the_answer_and_the_mean_map_are_there(browser, page):
    browser.open(page, 1280, dark=False, scripts=False)
    assert browser.complaints == []
    assert text(browser, ".answer") == "word0 word1 word2"
    visible = "getComputedStyle(document.querySelector('{}')).display !== 'none'"
    assert browser.evaluate(visible.format(".mean"))
    assert browser.evaluate(visible.format(".static"))
    assert not browser.evaluate(visible.format(".controls"))
    assert not browser.evaluate(visible.format("canvas.map"))


def test_it_prints(browser, page):
    browser.open(page, 1280, dark=True)
    printed = browser.call("Page.printToPDF", printBackground=True)["data"]
    assert len(printed) > 10_000
