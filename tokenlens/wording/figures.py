"""Formats of figures: shares in per cent, values with their intervals, counts with their nouns."""

from math import isnan

DASH = "\N{EN DASH}"
_SPACE = "\N{NO-BREAK SPACE}"


def percent(share: float, digits: int | None = 0) -> str:
    """A share in per cent, as text; three significant figures where `digits` is None.

    What is rounded to zero has no sign.

    >>> percent(0.333), percent(0.9871, 1), percent(0.00025, None)
    ('33\N{NO-BREAK SPACE}%', '98.7\N{NO-BREAK SPACE}%', '0.025\N{NO-BREAK SPACE}%')
    >>> percent(-0.0001)
    '0\N{NO-BREAK SPACE}%'
    """
    number = f"{100 * share:z.3g}" if digits is None else f"{100 * share:z.{digits}f}"
    return f"{number}{_SPACE}%"


def value_and_interval(
    value: float, low: float, high: float, *, scale: float = 100.0, digits: int = 1
) -> tuple[str, str]:
    """A value and its interval in brackets, both times `scale`; a dash and an empty text for NaN.

    >>> value_and_interval(0.973, 0.959, 1.0), value_and_interval(*3 * [float("nan")])
    (('97.3', '[95.9, 100.0]'), ('–', ''))
    >>> value_and_interval(-0.0002, -0.01, 0.01)
    ('0.0', '[-1.0, 1.0]')
    """
    if isnan(value):
        return DASH, ""
    first, *ends = (f"{scale * number:z.{digits}f}" for number in (value, low, high))
    return first, f"[{', '.join(ends)}]"


def interval_cell(value: float, low: float, high: float) -> str:
    """A share and its interval in per cent, in one cell; a dash where there is none.

    >>> interval_cell(0.973, 0.959, 1.0), interval_cell(*3 * [float("nan")])
    ('97.3 [95.9, 100.0]', '–')
    """
    return " ".join(value_and_interval(value, low, high)).rstrip()


def percent_interval(low: float, high: float) -> str:
    """A 95 % interval of shares.

    >>> percent_interval(0.951, 0.99)
    '95.1–99.0\N{NO-BREAK SPACE}%'
    """
    return f"{100 * low:z.1f}{DASH}{percent(high, 1)}"


def counted(number: int, noun: str) -> str:
    """A number with its noun, singular or plural.

    >>> counted(1, "sample"), counted(20, "sample")
    ('1 sample', '20 samples')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
