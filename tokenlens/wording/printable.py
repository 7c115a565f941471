"""Text that is safe for a terminal, a page or a table: no control characters, limited length.

Names from a user, a data set or a checkpoint (tasks, questions, answers, methods, paths) are shown
only through these functions, so that a name can neither move the cursor nor start a new line.
"""

import re
import unicodedata

MESSAGE_LIMIT = 500
"""Characters of a message of one line."""
_VALUE_LIMIT = 80
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What turns the direction of the text around it."""
_INVISIBLE = frozenset("\ufeff\ufff9\ufffa\ufffb")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_HARMLESS = re.compile("[ -~\u00a0-\u0370]*")
"""Most texts are of these alone, which one look tells."""
_GAP = " \N{HORIZONTAL ELLIPSIS} "


def is_control(sign: str) -> bool:
    r"""Whether a character is a control character.

    These are C0, C1 and DEL, line and paragraph separators, halves of surrogate pairs, and
    characters that change the direction of the text around them.

    >>> [is_control(sign) for sign in "a\x1b\x9b\u2028\u202e\u200d"]
    [False, True, True, True, True, False]
    """
    return unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") or sign in _BIDI | _INVISIBLE


def printable(text: str, *, lines: bool = False) -> str:
    r"""`text` with every control character as its escape, such as \u001b; JSON reads it back.

    Args:
        text: any text.
        lines: whether line breaks belong to the text and are kept.

    >>> printable("a\x1b[2Jb\nc"), printable("a\nb", lines=True)
    ('a\\u001b[2Jb\\nc', 'a\nb')
    """
    if _HARMLESS.fullmatch(text):
        return text
    return "".join(
        _SHORT.get(sign) or f"\\u{ord(sign):04x}"
        if is_control(sign) and not (lines and sign == "\n")
        else sign
        for sign in text
    )


def elided(text: str, limit: int) -> str:
    """`text` with its middle left out where it is longer than `limit` characters.

    >>> elided("abcdefghij", 9), elided("abc", 9)
    ('abc … hij', 'abc')
    """
    if len(text) <= limit:
        return text
    room = limit - len(_GAP)
    return f"{text[: room - room // 2]}{_GAP}{text[len(text) - room // 2 :]}"


def one_line(message: str, limit: int = MESSAGE_LIMIT) -> str:
    """A message on one line of at most `limit` characters, without control characters."""
    return elided(printable(elided(message, 4 * limit)), limit)


def shown(value: object, limit: int = _VALUE_LIMIT) -> str:
    """The `repr` of a value for a message; the middle of a long one is left out.

    >>> shown("33%"), len(shown("9" * 400))
    ("'33%'", 80)
    """
    return elided(printable(repr(value)), limit)
