"""Figures with texts of any script: a font that has it, or one line that says which is missing."""

import warnings
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from tokenlens.analyses.drawing import fonts
from tokenlens.analyses.drawing.finished import render
from tokenlens.errors import MissingScriptWarning


def files(family: str) -> list[str]:
    return [font.fname for font in fontManager.ttflist if font.name == family]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch):
    """Let no other families be installed."""

    def installed(*families: str) -> None:
        entries = tuple(
            SimpleNamespace(name=family, fname=path)
            for family in families
            for path in files(family)
        )
        monkeypatch.setattr(fonts, "_installed", lambda: entries)
        fonts._family_with.cache_clear()

    yield installed
    fonts._family_with.cache_clear()


def figure_of(text: str) -> Figure:
    figure = Figure(figsize=(2, 1))
    axes = figure.subplots()
    axes.set_title(text)
    axes.set_yticks([0, 1], [text, "plain"])
    return figure


def drawn(text: str, suffix: str = ".png") -> tuple[bytes, list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        content = render(figure_of(text), suffix)
    return content, caught


SCRIPTS = {
    "红色的圆在哪里": "CJK",
    "あか": "kana",
    "빨간 원": "Hangul",
    "🙂": "emoji",
    "লাল": "Bengali",
}


@pytest.mark.parametrize("suffix", [".png", ".svg"])
@pytest.mark.parametrize("text", SCRIPTS)
def test_a_script_that_no_font_has_is_named_once(only, text: str, suffix: str) -> None:
    only("DejaVu Sans")
    _, caught = drawn(text, suffix)
    assert [one.category for one in caught] == [MissingScriptWarning]
    said = str(caught[0].message)
    assert SCRIPTS[text] in said
    assert said.isprintable()


def test_what_the_usual_font_has_is_drawn_without_a_word() -> None:
    for text in ("plain", "дом", "אדום", "‮RTL שלום", "a\u200db", "لون"):
        assert drawn(text)[1] == []


def test_a_font_that_has_the_script_is_taken(only) -> None:
    usual, other = (fonts._codes(files(name)[0]) for name in ("DejaVu Sans", "STIXGeneral"))
    letter = next(chr(code) for code in sorted(other - usual) if chr(code).isalpha())
    only("DejaVu Sans")
    boxes, caught = drawn(f"a {letter}")
    assert len(caught) == 1
    only("DejaVu Sans", "STIXGeneral")
    letters, caught = drawn(f"a {letter}")
    assert caught == []
    assert letters != boxes
    assert fonts.fonts_for(f"a {letter}") == (["STIXGeneral"], [])


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert drawn("plain", ".svg")[0] == drawn("plain", ".svg")[0]
