"""The report's explorer in a real browser: what it shows are the stored numbers."""

import base64
import json
import re
import zlib

import numpy as np
import pytest

from tests.reports.test_explorer import ARMS, maps_of
from tests.reports.test_show_browser import percent, press, text
from tests.support import synthetic
from tests.support.browser import IN_A_BROWSER
from tests.support.browser import hovered as tokens_hovered
from tokenlens.reports.page import build_report
from tokenlens.storage.output_paths import Runs

pytestmark = IN_A_BROWSER
OTHER_MODEL = {**synthetic.MODEL, "id": "other-model", "config_hash": "another"}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Two arms that answer otherwise than the unpruned model, and a second model."""
    folder = tmp_path_factory.mktemp("explorer")
    samples = [synthetic.sample(index, folder / "pictures") for index in range(8)]
    outcome = synthetic._outcome

    def answers(index, number, steps):
        said = ["a red circle", "a blue circle", "a red circle"][number]
        return {**outcome(index, number, steps), "prediction": said}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "_outcome", answers)
        profile = synthetic.write_profile(folder / "profile", samples, heads=True)
        results = synthetic.write_results(folder / "results", samples, ARMS)
        patch.setattr(synthetic, "MODEL", OTHER_MODEL)
        other = synthetic.write_profile(folder / "other", samples[:2])
    further = (Runs(other, None, folder),)
    return build_report(profile, None, results, folder / "report", pictures=1, further=further).html


@pytest.fixture(scope="module")
def data(page):
    html = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="explorer-data">(.*?)</script>', html, re.S)[1])


@pytest.fixture
def opened(browser, page):
    browser.open(page, 1280, dark=False)
    return browser


def change(browser, name, value, kind="change"):
    """Set a control as a person would."""
    browser.evaluate(
        f"(() => {{ const one = document.getElementById('ex-{name}'); one.value = "
        f"{json.dumps(value)}; one.dispatchEvent(new Event({kind!r}, {{bubbles: true}})); }})()"
    )


def click(browser, selector):
    browser.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


def shown(browser, data):
    """The sample that is shown."""
    return data["samples"][int(browser.evaluate("document.getElementById('ex-sample').value"))]


def hovered(browser):
    """What is said of each token when the pointer is over it."""
    return tokens_hovered(browser, "#ex-frame", "#ex-value")


def said(values):
    return [f"token {at + 1}: {percent(value)}" for at, value in enumerate(values)]


def alphas(browser, sheet):
    """The opacity of each cell of a sheet."""
    return browser.evaluate(
        f"[...document.querySelector('#ex-{sheet} canvas').getContext('2d')"
        ".getImageData(0, 0, 6, 6).data].filter((_, at) => at % 4 === 3)"
    )


def test_slider_keys_and_heads_show_the_stored_numbers(opened, data):
    maps = maps_of(shown(opened, data))
    assert text(opened, "#ex-layer-number") == "3", "the first chosen layer comes first"
    assert hovered(opened) == said(maps[2, 0])
    change(opened, "layer", 5, "input")
    assert hovered(opened) == said(maps[4, 0])
    press(opened, "ArrowLeft")
    press(opened, "ArrowLeft")
    press(opened, "ArrowRight")
    assert text(opened, "#ex-layer-number") == "4"
    assert hovered(opened) == said(maps[3, 0])
    change(opened, "head", "2", "input")
    assert hovered(opened) == said(maps[3, 2])
    assert text(opened, "#ex-what") == "layer 4 · head 2"
    for _ in range(9):
        press(opened, "ArrowRight")
    assert text(opened, "#ex-layer-number") == "6"
    assert opened.complaints == []


def test_a_layer_has_its_own_colours_or_all_share_them(opened, data):
    maps = maps_of(shown(opened, data))[:, 0]
    alpha = alphas(opened, "first")
    assert alpha.index(max(alpha)) == maps[2].argmax()
    assert text(opened, "#ex-top") == percent(maps[2].max())
    assert text(opened, "#ex-half") == percent(maps[2].max() / 2)
    change(opened, "scale", "word")
    assert text(opened, "#ex-top") == percent(maps.max())
    assert max(alphas(opened, "first")) < max(alpha)


def test_a_token_has_its_values_at_every_layer_beside_it(opened, data):
    maps = maps_of(shown(opened, data))[:, 0]
    hovered(opened)
    words = [f"layer {at + 1}: {percent(value)}" for at, value in enumerate(maps[:, 35])]
    curve = "document.getElementById('ex-curve')"
    assert opened.evaluate(f"{curve}.getAttribute('aria-label')") == ", ".join(words)
    points = opened.evaluate(f"{curve}.querySelector('polyline').getAttribute('points')")
    heights = np.array([float(point.split(",")[1]) for point in points.split()])
    assert np.abs(76 - 70 * maps[:, 35] / maps[:, 35].max() - heights).max() < 0.06
    assert opened.evaluate(f"{curve}.querySelectorAll('.chosen').length") == 3


def test_the_pictures_tokens_are_walked_by_keyboard(opened):
    opened.evaluate("document.getElementById('ex-frame').focus()")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowLeft", "ArrowUp"):
        press(opened, key)
    assert text(opened, "#ex-value").startswith("token 1:")
    press(opened, "ArrowDown")
    assert text(opened, "#ex-value").startswith("token 7:")
    assert text(opened, "#ex-layer-number") == "3", "the layer stays"


def order(browser):
    return [
        int(value)
        for value in browser.evaluate(
            "[...document.querySelectorAll('#ex-sample option')].map(one => one.value)"
        )
    ]


def test_samples_are_sorted(opened, data):
    samples = data["samples"]
    assert order(opened) == list(range(len(samples)))

    def overlap(at):
        recall = samples[at]["recall"]
        return np.mean(recall[0]) if recall else 9

    def lost(at):
        scores = [one["score"] for one in samples[at]["outcomes"]]
        return -max((scores[0] - one for one in scores[1:]), default=-9)

    for name, key in (
        ("overlap", overlap),
        ("lost", lost),
        ("task", lambda at: samples[at]["task"]),
    ):
        change(opened, "sort", name)
        assert order(opened) == sorted(range(len(samples)), key=key)
        assert opened.evaluate("document.getElementById('ex-sample').selectedIndex") == 0
        assert text(opened, "#ex-question") == samples[order(opened)[0]]["question"]
    assert lost(0) == -1, "or nothing would have been sorted by it"


def test_another_sample_and_another_model(opened, data):
    change(opened, "sample", "3")
    assert text(opened, "#ex-question") == data["samples"][3]["question"]
    assert text(opened, "#ex-truth") == "Right answer: " + data["samples"][3]["answers"][0]
    assert text(opened, "#ex-place").startswith("4 of")
    change(opened, "model", "1")
    assert order(opened) == [at for at, one in enumerate(data["samples"]) if one["model"] == 1]
    assert hovered(opened) == said(maps_of(shown(opened, data))[0, 0])
    assert opened.evaluate("document.getElementById('ex-tab-kept').disabled")
    assert opened.complaints == []


def test_what_pruning_changed_in_the_answer_is_marked(opened):
    cards = "[...document.querySelectorAll('.answer-card')].map(one => one.innerHTML)"
    plain, changed, same = opened.evaluate(cards)
    assert "a red circle" in plain
    assert "<del>red</del><ins>blue</ins>" in changed
    assert "another answer" in changed
    assert "<del>" not in same
    assert "the same answer" in same


def test_two_methods_are_wiped_over_each_other(opened, data):
    click(opened, "#ex-tab-kept")
    change(opened, "one", "1 2")
    change(opened, "other", "2 0")
    change(opened, "wipe", "25", "input")
    sample = shown(opened, data)
    for sheet, arm, stage in (("first", 1, 2), ("second", 2, 0)):
        fates = np.array(list(sample["outcomes"][arm]["fates"][stage]), dtype=int)
        veil = np.array([0, 0, 168, 168, 237])[fates]
        assert np.abs(np.array(alphas(opened, sheet)) - veil).max() <= 1
    clip = "document.getElementById('ex-{}').style.clipPath"
    assert opened.evaluate(clip.format("first")) == "inset(0px 75% 0px 0px)"
    assert opened.evaluate(clip.format("second")) == "inset(0px 0px 0px 25%)"
    words = ("kept", "brought back", "set aside", "merged token", "dropped")
    expected = [
        f"token {at + 1} · swiftvlm: {words[int(one)]} · fastv: {words[int(other)]}"
        for at, (one, other) in enumerate(
            zip(sample["outcomes"][1]["fates"][2], sample["outcomes"][2]["fates"][0], strict=True)
        )
    ]
    assert hovered(opened) == expected
    kept = [
        {at for at, fate in enumerate(sample["outcomes"][arm]["fates"][stage]) if fate in "01"}
        for arm, stage in ((1, 2), (2, 0))
    ]
    assert f"{len(kept[0] & kept[1])} kept by both" in text(opened, "#ex-counts")
    press(opened, "ArrowLeft")
    assert opened.evaluate("document.getElementById('ex-one').value") == "1 1"
    change(opened, "other", "")
    assert opened.evaluate("document.getElementById('ex-second').hidden")
    assert opened.evaluate(clip.format("first")) == ""
    assert opened.complaints == []


def test_a_pair_of_layers_is_chosen_from_their_correlation(opened, data):
    opened.evaluate("document.getElementById('ex-correlation').focus()")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Enter"):
        press(opened, key)
    value = next(iter(data["models"][0]["correlations"].values()))[1][3]
    assert text(opened, "#ex-correlation-value").startswith("layers 2 and 4: ")
    assert float(
        text(opened, "#ex-correlation-value").split(": ")[1].replace("\N{MINUS SIGN}", "-")
    ) == (pytest.approx(value, abs=0.006))
    assert text(opened, "#ex-layer-number") == "2"
    assert text(opened, "#ex-pair span").startswith("layer 4")
    maps = maps_of(shown(opened, data))
    alpha = alphas(opened, "pair")
    assert alpha.index(max(alpha)) == maps[3, 0].argmax()
    click(opened, "#ex-unpair")
    assert opened.evaluate("document.getElementById('ex-pair').hidden")
    box = opened.evaluate(
        "(() => { const place = document.getElementById('ex-correlation');"
        "const box = place.getBoundingClientRect();"
        "place.dispatchEvent(new MouseEvent('click', {clientX: box.left + box.width * 5.5 / 6,"
        "clientY: box.top + box.height * .5 / 6})); })()"
    )
    assert box is None
    assert (text(opened, "#ex-layer-number"), text(opened, "#ex-pair span")[:7]) == ("1", "layer 6")


def test_every_control_has_a_name_and_is_reached_by_tab(opened):
    unnamed = opened.evaluate(
        "[...document.querySelectorAll('#explore select, #explore input')]"
        ".filter(one => !one.labels.length).length"
    )
    assert unnamed == 0
    assert opened.evaluate(
        "[...document.querySelectorAll('#explore button')].every(one => one.textContent.trim())"
    )
    opened.evaluate("document.getElementById('ex-sort').focus()")
    reached = ["ex-sort"]
    for _ in range(9):
        for kind in ("rawKeyDown", "keyUp"):
            opened.call("Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9)
        reached.append(opened.evaluate("document.activeElement.id"))
    assert reached == [
        "ex-sort",
        "ex-model",
        "ex-sample",
        "ex-tab-map",
        "ex-tab-kept",
        "ex-frame",
        "ex-layer",
        "ex-head",
        "ex-scale",
        "ex-correlation",
    ]


def test_on_paper_the_static_page_alone(opened):
    opened.call("Emulation.setEmulatedMedia", media="print")
    display = "getComputedStyle(document.getElementById('{}')).display"
    assert opened.evaluate(display.format("explore")) == "none"
    assert opened.evaluate(display.format("maps")) != "none"
    opened.call("Emulation.setEmulatedMedia", media="")
    printed = base64.b64decode(opened.call("Page.printToPDF", printBackground=True)["data"])
    assert printed.startswith(b"%PDF")
    streams = re.findall(rb"stream\r?\n(.*?)endstream", printed, re.S)
    assert sum(len(zlib.decompressobj().decompress(one)) for one in streams if one[:1] == b"x") > 0
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") >= 2


def test_without_scripts_the_static_page_alone(browser, page):
    browser.open(page, 1280, dark=False, scripts=False)
    assert browser.complaints == []
    display = "getComputedStyle(document.querySelector('{}')).display"
    assert browser.evaluate(display.format("#explore")) == "none"
    assert browser.evaluate(display.format("[data-explorer]")) == "none"
    assert browser.evaluate(display.format("#maps")) == "block"
    assert browser.evaluate("document.querySelectorAll('#maps .tile').length") == 7


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_cut_off_in_any_view(browser, page, width, dark):
    browser.open(page, width, dark)
    for view in ("map", "kept"):
        click(browser, f"#ex-tab-{view}")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        cut = browser.evaluate(
            "[...document.querySelectorAll('#explore *')].filter(one => one.getClientRects().length"
            f" && !one.closest('svg, select') && one.getBoundingClientRect().right > {width})"
            ".map(one => one.outerHTML.slice(0, 80))"
        )
        assert cut == []
    ink, card = browser.evaluate(
        "['color', 'backgroundColor'].map(name => "
        "getComputedStyle(document.getElementById('explore'))[name])"
    )
    light = [sum(map(int, re.findall(r"\d+", one)[:3])) for one in (ink, card)]
    assert (light[0] > light[1]) == dark
    assert browser.complaints == []
    assert browser.requests == []
