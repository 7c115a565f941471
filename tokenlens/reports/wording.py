"""Numbers and settings in the words of the page."""

import json
import re
from typing import Any

from tokenlens.wording.figures import percent

_SPACE = "\N{NO-BREAK SPACE}"


def signed(value: float) -> str:
    """A correlation as text, with a real minus sign, which zero has none of.

    >>> signed(-0.286), signed(-0.001)
    ('−0.29', '0.00')
    """
    return f"{value:z.2f}".replace("-", "\N{MINUS SIGN}")


def amount(value: float, unit: str = "", base: int = 1000) -> str:
    """A large number as text, with three figures and a unit prefix.

    >>> amount(1.4e12), amount(2048, "B", 1024), amount(0)
    ('1.4\N{NO-BREAK SPACE}T', '2\N{NO-BREAK SPACE}KiB', '0')
    """
    prefixes = ("", "k", "M", "G", "T", "P") if base == 1000 else ("", "Ki", "Mi", "Gi", "Ti", "Pi")
    power = 0
    while value >= base and power < len(prefixes) - 1:
        value, power = value / base, power + 1
    return f"{value:.3g}{_SPACE}{prefixes[power]}{unit}".rstrip(_SPACE)


def saving(share: float) -> str:
    """The difference of a share from 100 %, as text; below 1 % with one digit more.

    >>> saving(0.42), saving(1.02)
    ('−58\N{NO-BREAK SPACE}%', '+2\N{NO-BREAK SPACE}%')
    >>> saving(0.996), saving(1.0)
    ('−0.4\N{NO-BREAK SPACE}%', '0\N{NO-BREAK SPACE}%')
    """
    sign, difference = "\N{MINUS SIGN}" if share <= 1 else "+", abs(1 - share)
    if difference < 0.0005:
        return percent(0)
    return sign + percent(difference, 0 if difference >= 0.01 else 1)


def listed(items: list[str]) -> str:
    """Words as a list in a sentence.

    >>> listed(["3"]), listed(["3", "8", "10"])
    ('3', '3, 8 and 10')
    """
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def readable_json(value: Any) -> str:
    """Indented JSON with lists of numbers on one line.

    >>> print(readable_json({"scores": [0.5, 1.0]}))
    {
      "scores": [0.5, 1.0]
    }
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return re.sub(r'\[\n([^][{}"]*)\]', lambda found: f"[{' '.join(found[1].split())}]", text)
