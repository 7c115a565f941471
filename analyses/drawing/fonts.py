"""Fonts for the scripts that questions, tasks and ids are written in.

Matplotlib takes a letter from the next font in a list where the first one lacks it. Here every text
of a figure gets the usual font and an installed one for each letter that the usual font lacks.
Scripts that no installed font supports are reported once, and their letters are shown as boxes.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from tokenlens.errors import MissingScriptWarning

USUAL = "DejaVu Sans"
"""Usual font; it ships with Matplotlib."""
_PLACEHOLDERS = "Last Resort"
"""Font with a box for every letter; it ships with Matplotlib."""
_UNSEEN = ("C", "Z", "M")
"""Categories of Unicode that are no letters of their own: controls, spaces, marks."""
_SCRIPTS = {
    "CJK": "Chinese or Japanese characters (CJK)",
    "HIRAGANA": "Japanese kana",
    "KATAKANA": "Japanese kana",
    "HANGUL": "Korean (Hangul)",
}


def fit_fonts(figure: Figure) -> None:
    """Give every text of a figure fonts that have its letters.

    Warns with `MissingScriptWarning`, a line for each script that no installed font has, in place
    of Matplotlib's line for each letter (see `without_glyph_warnings`).
    """
    scripts = set()
    for text in figure.findobj(Text):
        families, lacking = fonts_for(text.get_text())
        if families:
            text.set_fontfamily([*text.get_fontfamily(), USUAL, *families])
        scripts |= {script_of(letter) for letter in lacking}
    for script in sorted(scripts):
        warnings.warn(
            f"no installed font has {script}: figures show boxes in their place; install one, such "
            "as Noto Sans CJK or Noto Emoji, and draw them again",
            MissingScriptWarning,
            stacklevel=3,
        )


@contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """Context in which Matplotlib says nothing of letters without a font; see `fit_fonts`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ ")
        warnings.filterwarnings("ignore", "Matplotlib currently does not support")
        yield


def fonts_for(text: str) -> tuple[list[str], list[str]]:
    """Font families for letters of a text that the usual font lacks, and letters without a font."""
    families: dict[str, None] = {}
    lacking = []
    for letter in _letters(text):
        family = _family_with(letter)
        if family is None:
            lacking.append(letter)
        elif family != USUAL:
            families[family] = None
    return list(families), lacking


def script_of(letter: str) -> str:
    """Name of the script of a letter.

    >>> script_of("犬"), script_of("강"), script_of("ক"), script_of("🙂")
    ('Chinese or Japanese characters (CJK)', 'Korean (Hangul)', 'Bengali', 'emoji and symbols')
    """
    if unicodedata.category(letter).startswith("S"):
        return "emoji and symbols"
    first = unicodedata.name(letter, "UNNAMED").split()[0]
    return _SCRIPTS.get(first, first.capitalize())


def _letters(text: str) -> Iterable[str]:
    return sorted(
        letter for letter in set(text) if not unicodedata.category(letter).startswith(_UNSEEN)
    )


@cache
def _family_with(letter: str) -> str | None:
    """The first installed family that has a letter; the usual one is tried first."""
    found = (font.name for font in _installed() if ord(letter) in _codes(font.fname))
    return next(found, None)


@cache
def _installed() -> tuple[FontEntry, ...]:
    """Upright scalable fonts, in a deterministic order."""
    fonts = [
        font
        for font in fontManager.ttflist
        if font.style == "normal" and not font.name.startswith(_PLACEHOLDERS)
    ]
    return tuple(
        sorted(
            fonts,
            key=lambda font: (
                font.name != USUAL,
                not font.name.startswith("Noto Sans"),
                font.name,
                abs(int(font.weight) - 400) if str(font.weight).isdigit() else 0,
                font.fname,
            ),
        )
    )


@cache
def _codes(path: str) -> frozenset[int]:
    """The code points of a font; empty for a font that cannot be read or is a bitmap font."""
    try:
        font = FT2Font(path)
        font.set_size(8, 72)
        return frozenset(font.get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()
