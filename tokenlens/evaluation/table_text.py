"""Names inside tables: nothing in them is markup, a formula or a control character."""

from tokenlens.printable import printable

_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARKS = {sign: f"\\{sign}" for sign in r"\*_[]|~#"}
_FORMULA = ("=", "+", "-", "@")


def markdown_text(text: str, *, code: bool = False) -> str:
    r"""A name or a sentence that Markdown shows as it is, on one line with single spaces.

    Args:
        text: anything.
        code: whether backticks are the sentence's own and stay.

    >>> markdown_text("<b>a|b</b> *c*\n")
    '&lt;b&gt;a\\|b&lt;/b&gt; \\*c\\*'
    """
    escapes = {**_HTML, **_MARKS} if code else {**_HTML, **_MARKS, "`": "\\`"}
    return printable(" ".join(text.split())).translate(str.maketrans(escapes))


def csv_text(text: str) -> str:
    """A name that no spreadsheet takes for a formula: it gets an apostrophe in front.

    Spreadsheets hide that apostrophe; a program takes it off where =, +, - or @ follows.

    >>> csv_text("=1+1"), csv_text("text")
    ("'=1+1", 'text')
    """
    line = printable(text)
    return f"'{line}" if line.lstrip().startswith(_FORMULA) else line
