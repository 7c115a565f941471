"""Budgets: a target of visual tokens or of MACs, and the parser of their text form."""

import re
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

from tokenlens.errors import BudgetError
from tokenlens.schedule.notes import BudgetNote
from tokenlens.wording.printable import shown

_MOST_TOKENS = 1e15
_MOST_MACS = 1e24
_PREFIXES = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_NUMBER = r"([0-9]{1,30}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})"
_MACS = r"MACs?"

Unit = Literal["ratio", "tokens", "MACs ratio", "MACs"]


@dataclass(frozen=True)
class Budget:
    """A target for the layer average, or for the MACs of the decoder's prefill.

    Attributes:
        amount: a number of its unit.
        unit: of the layer average "ratio" (of the visual tokens, in (0, 1]) and "tokens"; of the
            prefill "MACs ratio" (of the unpruned one's, in (0, 1]) and "MACs".
    """

    amount: float
    unit: Unit

    @property
    def in_macs(self) -> bool:
        """Whether it is a number or a share of MACs, not of tokens."""
        return self.unit in ("MACs ratio", "MACs")

    @property
    def is_share(self) -> bool:
        """Whether it is a share of the unpruned model's tokens or MACs."""
        return self.unit in ("ratio", "MACs ratio")

    def tokens(self, n_visual: int) -> float:
        """The target in tokens, for a sample with `n_visual` visual tokens.

        Raises `BudgetError` for a budget in MACs, whose number of tokens depends on the stages.
        """
        if self.in_macs:
            raise BudgetError(
                f"budget: {self} is no number of tokens; give one, or a share of them"
            )
        return self.amount * self.unit_of(n_visual)

    def unit_of(self, whole: float) -> float:
        """The size of one unit, where the unpruned model has `whole` tokens or MACs."""
        return whole if self.is_share else 1.0

    def note(self, n_visual: int, reached: float | None = None) -> BudgetNote:
        """The schedule's note of a budget in tokens."""
        whole = self.unit == "tokens" and self.amount == int(self.amount)
        average = int(self.amount) if whole else self.amount
        return BudgetNote(average=average, n_visual=n_visual, reached=reached)

    def __str__(self) -> str:
        written = {
            "ratio": f"{100 * self.amount:g} %",
            "tokens": f"{self.amount:g} tokens",
            "MACs ratio": f"{100 * self.amount:g} % MACs",
            "MACs": macs_text(self.amount),
        }
        return written[self.unit]


def parse_budget(value: Budget | str | int | float) -> Budget:
    """Read a budget.

    Of the visual tokens: a percentage, a ratio (up to 1, with a decimal point), or a number of
    tokens. Of the MACs of the decoder's prefill: a percentage of the unpruned one's, or a number;
    both say MACs (in any case), the number with a prefix K, M, G, T or P if it has one.

    Raises `BudgetError` for anything else.

    >>> parse_budget("33%"), parse_budget(0.33), parse_budget("48"), parse_budget("48.5 tokens")
    ... # doctest: +NORMALIZE_WHITESPACE
    (Budget(amount=0.33, unit='ratio'), Budget(amount=0.33, unit='ratio'),
     Budget(amount=48.0, unit='tokens'), Budget(amount=48.5, unit='tokens'))
    >>> parse_budget("50% MACs"), parse_budget("1.5 TMACs")
    (Budget(amount=0.5, unit='MACs ratio'), Budget(amount=1500000000000.0, unit='MACs'))
    """
    if isinstance(value, Budget):
        return value
    budget = _read(value) if isinstance(value, str) else _as_budget(value)
    if budget is None or not _is_within(budget):
        flops = isinstance(value, str) and "flop" in value.lower()
        raise BudgetError(
            f"budget: got {shown(str(value))}, expected a share of the visual tokens above 0 % and "
            "up to 100 % such as '33%' or '0.33', a number of them such as '48' or '48 tokens', or "
            "MACs of the decoder's prefill such as '50% MACs', '1.2 TMACs' or '400 GMACs'"
            + (" (published FLOPs are MACs; counted by twos, halve them)" if flops else "")
        )
    return budget


def macs_text(macs: float) -> str:
    """A number of MACs with a unit prefix.

    >>> macs_text(4.2518e12), macs_text(123456), macs_text(999.96e9), macs_text(12)
    ('4.252 TMACs', '123.5 KMACs', '1 TMACs', '12 MACs')
    """
    rounded = float(f"{macs:.4g}")
    fitting = [name for name, size in _PREFIXES.items() if size <= rounded]
    prefix = fitting[-1] if fitting else ""
    return f"{rounded / _PREFIXES[prefix]:g} {prefix}MACs"


def _is_within(budget: Budget) -> bool:
    least, most = {
        "ratio": (0.0, 1.0),
        "tokens": (0.0, _MOST_TOKENS),
        "MACs ratio": (0.0, 1.0),
        "MACs": (0.5, _MOST_MACS),
    }[budget.unit]
    return least < budget.amount <= most


def _read(text: str) -> Budget | None:
    text = text.strip()
    if found := re.fullmatch(rf"{_NUMBER}\s*%(\s*{_MACS})?", text, re.IGNORECASE):
        return Budget(float(found[1]) / 100, "MACs ratio" if found[2] else "ratio")
    if found := re.fullmatch(rf"{_NUMBER}\s*([KMGTP]?){_MACS}", text, re.IGNORECASE):
        return Budget(float(found[1]) * _PREFIXES[found[2].upper()], "MACs")
    if found := re.fullmatch(rf"{_NUMBER}(\s*tokens?)?", text):
        number = float(found[1]) if "." in found[1] else int(found[1])
        return Budget(float(number), "tokens") if found[2] else _as_budget(number)
    return None


def _as_budget(number: object) -> Budget | None:
    if isinstance(number, bool) or not isinstance(number, Real) or not number < _MOST_TOKENS:
        return None
    counted = isinstance(number, Integral) or float(number) > 1
    return Budget(float(number), "tokens" if counted else "ratio")
