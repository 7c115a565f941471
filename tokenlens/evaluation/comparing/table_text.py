"""Escaping of names in tables: no markup, formulas or control characters."""

import re

from tokenlens.wording.printable import printable

_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_MARKS = r"[\\*\[\]|~#]|(?<![^\W_])_|_(?![^\W_])"
"""What Markdown takes for a mark; an underscore inside a word is none."""
_FORMULA = ("=", "+", "-", "@")


def markdown_text(text: str, *, code: bool = False) -> str:
    r"""A name or a sentence that Markdown shows as it is, on one line with single spaces.

    Args:
        text: anything.
        code: whether backticks are the sentence's own and stay.

    >>> markdown_text("<b>a|b</b> *c*\n")
    '&lt;b&gt;a\\|b&lt;/b&gt; \\*c\\*'
    """
    line = printable(" ".join(text.split())).translate(_HTML)
    return re.sub(_MARKS if code else f"{_MARKS}|`", r"\\\g<0>", line)


def csv_text(text: str) -> str:
    """A name that no spreadsheet takes for a formula: it gets an apostrophe in front.

    Spreadsheets hide that apostrophe; a program takes it off where =, +, - or @ follows.

    >>> csv_text("=1+1"), csv_text("text")
    ("'=1+1", 'text')
    """
    line = printable(text)
    return f"'{line}" if line.lstrip().startswith(_FORMULA) else line
