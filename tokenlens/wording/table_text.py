"""Escaping of names in tables: no markup, formulas or control characters."""

import re

from tokenlens.wording.printable import printable

_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_MARKS = r"[\\*\[\]|~#]|(?<![^\W_])_|_(?![^\W_])"
"""Characters with a meaning in Markdown; an underscore inside a word has none."""
_FORMULA = ("=", "+", "-", "@")


def markdown_text(text: str, *, code: bool = False) -> str:
    r"""A text escaped so that Markdown shows it unchanged, on one line with single spaces.

    Args:
        text: any text.
        code: whether backticks mark code and are not escaped.

    >>> markdown_text("<b>a|b</b> *c*\n")
    '&lt;b&gt;a\\|b&lt;/b&gt; \\*c\\*'
    """
    line = printable(" ".join(text.split())).translate(_HTML)
    return re.sub(_MARKS if code else f"{_MARKS}|`", r"\\\g<0>", line)


def csv_text(text: str) -> str:
    """A name that no spreadsheet reads as a formula: such a name gets a leading apostrophe.

    Spreadsheets hide the apostrophe; a program removes it where =, +, - or @ follows.

    >>> csv_text("=1+1"), csv_text("text")
    ("'=1+1", 'text')
    """
    line = printable(text)
    return f"'{line}" if line.lstrip().startswith(_FORMULA) else line
