"""Lengths as users write them."""

import re

from tokenlens.errors import OptionError

_UNITS = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}
LEAST, MOST = 2.5, 20.0
"""Inches that a figure may be wide: texts have 6 to 9 points whatever the width."""


def inches(text: str) -> float:
    """A width in inches; `OptionError` for what is no length, or one no figure is drawn at.

    >>> inches("3.25in"), inches("254 mm")
    (3.25, 10.0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(in|cm|mm|pt)\s*", text)
    length = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not LEAST <= round(length, 6) <= MOST:
        raise OptionError(
            f"--width: got {text!r}, expected {LEAST:g}in to {MOST:g}in, such as 3.25in or 85mm"
        )
    return round(length, 6)
