"""Numbers and settings in the words of the page."""

import json
import re
from typing import Any

from tokenlens.registry import DISPOSALS
from tokenlens.schedule import Keep, MassKeep, Stage
from tokenlens.wording.figures import percent

_SPACE = "\N{NO-BREAK SPACE}"


def signed(value: float) -> str:
    """A correlation as text, with a real minus sign.

    >>> signed(-0.286)
    '−0.29'
    """
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


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
    """The difference of a share from 100 %, as text.

    >>> saving(0.42), saving(1.02)
    ('−58\N{NO-BREAK SPACE}%', '+2\N{NO-BREAK SPACE}%')
    """
    sign = "\N{MINUS SIGN}" if share <= 1 else "+"
    return sign + percent(abs(1 - share))


def listed(items: list[str]) -> str:
    """Words as a list in a sentence.

    >>> listed(["3"]), listed(["3", "8", "10"])
    ('3', '3, 8 and 10')
    """
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def counted(number: int, noun: str) -> str:
    """A number with its noun, singular or plural.

    >>> counted(1, "sample"), counted(20, "sample")
    ('1 sample', '20 samples')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def kept_words(keep: Keep) -> str:
    """The tokens that a stage keeps, in words.

    >>> kept_words(0.25), kept_words(24), kept_words("none")
    ('25.0\N{NO-BREAK SPACE}% of the visual tokens', '24 tokens', 'no visual token')
    >>> kept_words(MassKeep(mass=0.9, least=8, most=0.5)).replace("\N{NO-BREAK SPACE}", " ")
    'as many as hold 90.0 % of the importance (8 tokens to 50.0 % of the visual tokens)'
    """
    if isinstance(keep, MassKeep):
        limits = f"{kept_words(keep.least)} to {kept_words(keep.most)}"
        return f"as many as hold {percent(keep.mass, 1)} of the importance ({limits})"
    if keep == "none":
        return "no visual token"
    if isinstance(keep, int):
        return counted(keep, "token")
    return f"{percent(keep, 1)} of the visual tokens"


def rest_words(stage: Stage) -> str:
    """The disposal of a stage, in words.

    >>> rest_words(Stage(score_layer=3, when="after", keep=0.5, disposal="merge", merge=8))
    'merged into 8'
    >>> rest_words(Stage(score_layer=3, when="after", keep=0.5, disposal="recycle"))
    'dropped, but for the best three in ten, whose clusters go on (SparseVLM)'
    """
    many = percent(stage.merge) if isinstance(stage.merge, float) else str(stage.merge)
    if stage.disposal == "merge":
        return f"merged into {many}"
    if stage.disposal == "bypass":
        merged = f"{many} merged tokens stand in" if stage.merge else "nothing stands in"
        return f"set aside for the next stage; {merged}"
    words = DISPOSALS[stage.disposal].summary or f"disposed of by {stage.disposal!r}"
    return f"{words}; merge {many}" if stage.merge else words


def readable_json(value: Any) -> str:
    """Indented JSON with lists of numbers on one line.

    >>> print(readable_json({"scores": [0.5, 1.0]}))
    {
      "scores": [0.5, 1.0]
    }
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return re.sub(r'\[\n([^][{}"]*)\]', lambda found: f"[{' '.join(found[1].split())}]", text)
