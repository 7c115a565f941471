"""Stored queries in the explorer: a choice of the asking token, with that token's own numbers."""

import base64
import json
import re

import numpy as np
import pytest

from tests.reports.test_explorer import data_of
from tests.reports.test_show_browser import percent, text
from tests.support import synthetic
from tests.support.browser import IN_A_BROWSER, hovered
from tokenlens.measures.correlation import sample_rank_correlation
from tokenlens.measures.overlap import region_scores
from tokenlens.probing.profile import Profile
from tokenlens.registry import importance_unit
from tokenlens.reports import explorer as exploring
from tokenlens.reports.inputs import read_inputs
from tokenlens.reports.page import build_report

WORDS = ["the last prompt token", "answer 1: a", "answer 2: red", "answer 3: circle"]


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("queries")
    samples = [synthetic.sample(index, folder / "pictures") for index in range(4)]
    return synthetic.write_profile(folder / "profile", samples, queries="generated")


def maps_of(sample):
    """float64 [words, layers, n_visual], as the page computes them."""
    maps = sample["maps"]
    steps = np.frombuffer(base64.b64decode(maps["maps"]), dtype="<u2")
    shape = (len(maps["words"]), maps["layers"])
    return steps.reshape(*shape, -1) * np.array(maps["tops"]).reshape(*shape, 1) / maps["levels"]


def explored(profile, count=24):
    return exploring.explorer([read_inputs(profile, None, None)], count)


def test_every_asking_token_has_its_maps_overlap_and_correlation(profile):
    rows = {row.id: row for row in Profile(profile).rows()}
    for sample in data_of(explored(profile))["samples"]:
        row = rows[sample["id"]]
        assert sample["maps"]["words"] == WORDS
        true = np.concatenate([row.importance[None], np.moveaxis(row.query_importance, 1, 0)])
        np.testing.assert_allclose(maps_of(sample), true, atol=1e-5 * true.max())
        assert not np.allclose(true[0], true[1], atol=1e-3)  # the control
        assert sample["correlations"][0] is None
        for word in (1, 2, 3):
            there = sample["correlations"][word]
            np.testing.assert_allclose(there, sample_rank_correlation(true[word]), atol=0.006)
            if row.region.any():
                scores = region_scores(true[word], row.region, "recall", 0.2)
                np.testing.assert_allclose(sample["recall"][word], scores, atol=1e-4)


def test_a_prompt_s_tokens_are_called_so(tmp_path):
    samples = [synthetic.sample(0, tmp_path / "pictures")]
    profile = synthetic.write_profile(tmp_path / "text", samples, queries="text")
    (sample,) = data_of(explored(profile))["samples"]
    assert sample["maps"]["words"][1] == "prompt 1: a"


def test_values_of_another_importance_are_in_its_own_unit(profile, tmp_path):
    """The page shows shares of attention in per cent, and no other value."""
    samples = [synthetic.sample(0, tmp_path / "pictures")]
    other = synthetic.write_profile(tmp_path / "other", samples, kind="gradient")
    (sample,) = data_of(explored(other))["samples"]
    assert sample["maps"]["words"] == ["the last prompt token, gradient"]
    assert sample["maps"]["units"] == [importance_unit("gradient")]
    assert data_of(explored(profile))["samples"][0]["maps"]["units"] == [None] * len(WORDS)


@pytest.mark.slow
@IN_A_BROWSER[1]
def test_the_page_shows_that_unit(browser, tmp_path):
    samples = [synthetic.sample(0, tmp_path / "pictures")]
    other = synthetic.write_profile(tmp_path / "other", samples, kind="gradient")
    page = build_report(other, None, None, tmp_path / "page", pictures=1).html
    browser.open(page, 1280, dark=False)
    assert importance_unit("gradient") in text(browser, "#ex-total")
    for place in ("#ex-top", "#ex-half", "#ex-value", "#ex-curve-top"):
        assert "%" not in text(browser, place)


def test_asking_tokens_are_left_out_where_they_would_make_the_page_too_large(profile, monkeypatch):
    one = 2 * synthetic.LAYERS * synthetic.GRID**2
    monkeypatch.setattr(exploring, "MOST_MAP_BYTES", 4 * 3 * one)
    found = explored(profile)
    assert [one["maps"]["words"] for one in data_of(found)["samples"]] == 4 * [WORDS[:3]]
    assert any("at most 3 of a sample are here" in note for note in found.notes)
    assert [one["maps"]["words"] for one in data_of(explored(profile, 3))["samples"]] == 3 * [WORDS]


@pytest.fixture(scope="module")
def opened(browser, profile, tmp_path_factory):
    page = build_report(profile, None, None, tmp_path_factory.mktemp("page"), pictures=1).html
    browser.open(page, 1280, dark=False)
    html = page.read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="explorer-data">(.*?)</script>', html, re.S)[1])
    return browser, data


@pytest.mark.slow
@IN_A_BROWSER[1]
def test_the_asking_token_is_chosen_and_its_numbers_are_shown(opened):
    browser, data = opened
    sample = data["samples"][int(browser.evaluate("document.getElementById('ex-sample').value"))]
    maps = maps_of(sample)
    options = "[...document.getElementById('ex-word').options].map((one) => one.textContent)"
    assert browser.evaluate(options) == WORDS
    assert browser.evaluate("document.getElementById('ex-word-group').hidden") is False
    for word in (2, 3, 0):
        browser.evaluate(
            "(() => { const one = document.getElementById('ex-word');"
            f"one.value = '{word}'; one.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
        )
        said = [f"token {at + 1}: {percent(value)}" for at, value in enumerate(maps[word, 0])]
        assert hovered(browser, "#ex-frame", "#ex-value") == said
        own = "in this sample" in text(browser, "#ex-correlation-label")
        assert own == (word > 0)
        browser.evaluate("document.getElementById('ex-frame').click()")
        alone = sample["correlations"][word] or data["models"][0]["correlations"][WORDS[0]]
        value = f"{alone[0][1]:.2f}".replace("-", "\N{MINUS SIGN}")
        assert text(browser, "#ex-correlation-value") == f"layers 1 and 2: {value}"
    assert browser.complaints == []
    assert browser.requests == []
